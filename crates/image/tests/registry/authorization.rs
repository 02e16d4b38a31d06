//! Credentials: who gets them, and who must not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;
use walt_image::{Platform, PullError, RegistrySettings};

use crate::layout::{TestImage, noise};
use crate::proxy::{Action, Proxy, Request};
use crate::server::{Registry, reference, settings, store};

/// `walt:s3cret`
const BASIC: &str = "d2FsdDpzM2NyZXQ=";

fn image() -> TestImage {
    TestImage::new(vec![noise(1, 50_000), noise(2, 50_000)])
}

/// A docker `config.json` with credentials for `registry`.
fn config(registry: impl ToString, auth: &str) -> (TempDir, RegistrySettings) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs::write(&path, format!(r#"{{"auths":{{"{}":{auth}}}}}"#, registry.to_string())).unwrap();
    let missing = PathBuf::from("/nonexistent/auth.json");
    (dir, RegistrySettings { credential_files: vec![missing, path], ..settings() })
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_from_docker_s_configuration() {
    let registry = Registry::start_with_password();
    registry.push_image("a", &image(), &["--dest-creds", "walt:s3cret"]);
    let name = reference(registry.address, "a");
    let (_dir, store) = store();
    let (_file, right) = config(registry.address, &format!(r#"{{"auth":"{BASIC}"}}"#));
    // Wrong: `walt:x`.
    let (_file2, wrong) = config(registry.address, r#"{"auth":"d2FsdDp4"}"#);
    for (settings, said) in [(settings(), "no credentials"), (wrong, "wrong password")] {
        let error = store.pull(&name, &Platform::amd64(), &settings, |_| ()).await.unwrap_err();
        assert!(matches!(error, PullError::Denied { .. }) && error.to_string().contains(said), "{error}");
    }
    assert_eq!(store.pull(&name, &Platform::amd64(), &right, |_| ()).await.unwrap(), image().digest());
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_from_a_credential_helper() {
    let registry = Registry::start_with_password();
    registry.push_image("a", &image(), &["--dest-creds", "walt:s3cret"]);
    let dir = tempfile::tempdir().unwrap();
    let helper = dir.path().join("docker-credential-walt-test");
    let script = format!(
        "#!/bin/sh\nread key\n[ \"$1 $key\" = 'get {}' ] && echo '{{\"Username\":\"walt\",\"Secret\":\"s3cret\"}}'\n",
        registry.address
    );
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let file = dir.path().join("config.json");
    fs::write(&file, r#"{"credsStore":"walt-test"}"#).unwrap();
    // Another process has the changed PATH: that of this one is shared by all tests.
    let (_dir, store) = store();
    let settings =
        RegistrySettings { credential_files: vec![file], helper_dir: Some(dir.path().to_owned()), ..settings() };
    store.pull(&reference(registry.address, "a"), &Platform::amd64(), &settings, |_| ()).await.unwrap();
}

/// A token server in the proxy itself, in front of a registry that is open behind it.
fn token_proxy(registry: &Registry, wants: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Proxy {
    let issued = AtomicUsize::new(0);
    let uses = AtomicUsize::new(0);
    Proxy::start(registry.address, move |request| {
        if request.path.starts_with("/token") {
            if !wants(request) {
                return Action::Reply("401 Unauthorized", vec![], String::new());
            }
            let number = issued.fetch_add(1, Ordering::Relaxed) + 1;
            uses.store(0, Ordering::Relaxed);
            let field = if number % 2 == 1 { "token" } else { "access_token" };
            return Action::Reply("200 OK", vec![], format!(r#"{{"{field}":"t{number}","expires_in":60}}"#));
        }
        let current = format!("Bearer t{}", issued.load(Ordering::Relaxed));
        // Every token expires after three uses.
        if request.header("authorization") == Some(&current) && uses.fetch_add(1, Ordering::Relaxed) < 3 {
            return Action::Forward;
        }
        let host = request.header("host").unwrap();
        let challenge = format!(r#"WWW-Authenticate: Bearer realm="http://{host}/token",service="lab & co""#);
        Action::Reply("401 Unauthorized", vec![challenge], String::new())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_tokens_that_expire() {
    let registry = Registry::start();
    registry.push_image("team/a", &image(), &[]);
    let proxy = token_proxy(&registry, |request| {
        request.method == "GET"
            && request.header("authorization").is_none()
            && request.path.contains("service=lab+%26+co")
            && request.path.contains("scope=repository%3Ateam%2Fa%3Apull")
    });
    let (_dir, store) = store();
    store.pull(&reference(proxy.address, "team/a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap();
    let tokens = proxy.requests().iter().filter(|r| r.path.starts_with("/token")).count();
    assert_eq!(tokens, 2, "probe, manifest, configuration and two layers need two tokens of three uses");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_for_a_password_and_for_an_identity_token() {
    let registry = Registry::start();
    registry.push_image("a", &image(), &[]);
    let (_dir, store) = store();
    let by_password = token_proxy(&registry, |r| {
        r.header("authorization") == Some(&format!("Basic {BASIC}")) && r.path.contains("account=walt")
    });
    let (_file, with_password) = config(by_password.address, &format!(r#"{{"auth":"{BASIC}"}}"#));
    let name = reference(by_password.address, "a");
    let error = store.pull(&name, &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(matches!(&error, PullError::Denied { detail, .. } if detail.contains("anonymous")), "{error}");
    store.pull(&name, &Platform::amd64(), &with_password, |_| ()).await.unwrap();

    let by_identity = token_proxy(&registry, |r| {
        r.method == "POST" && r.body.contains("grant_type=refresh_token") && r.body.contains("refresh_token=id%2B1")
    });
    let (_file, with_identity) = config(by_identity.address, r#"{"identitytoken":"id+1"}"#);
    store.pull(&reference(by_identity.address, "a"), &Platform::amd64(), &with_identity, |_| ()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_never_takes_credentials_along() {
    let registry = Registry::start();
    registry.push_image("a", &image(), &[]);
    let elsewhere = Proxy::start(registry.address, |_| Action::Forward);
    let target = elsewhere.address;
    let proxy = Proxy::start(registry.address, move |request| {
        if request.header("authorization").is_none() {
            let challenge = "WWW-Authenticate: Basic realm=\"x\"".to_owned();
            return Action::Reply("401 Unauthorized", vec![challenge], String::new());
        }
        if request.is_blob() {
            let location = format!("Location: http://{target}{}", request.path);
            return Action::Reply("307 Temporary Redirect", vec![location], String::new());
        }
        Action::Forward
    });
    let (_file, settings) = config(proxy.address, &format!(r#"{{"auth":"{BASIC}"}}"#));
    let (_dir, store) = store();
    store.pull(&reference(proxy.address, "a"), &Platform::amd64(), &settings, |_| ()).await.unwrap();
    assert!(proxy.requests().iter().any(|r| r.is_blob() && r.header("authorization").is_some()));
    let redirected = elsewhere.requests();
    assert_eq!(redirected.len(), 3, "the configuration and two layers");
    assert!(redirected.iter().all(|r| r.header("authorization").is_none()), "{redirected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_in_a_circle_end() {
    let proxy = Proxy::start("127.0.0.1:9".parse().unwrap(), |request| {
        if request.path.ends_with("/v2/") {
            return Action::Reply("200 OK", vec![], String::new());
        }
        Action::Reply("302 Found", vec![format!("Location: {}", request.path)], String::new())
    });
    let (_dir, store) = store();
    let error = store.pull(&reference(proxy.address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(matches!(&error, PullError::Protocol { cause, .. } if cause.contains("redirects")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_credentials_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.json");
    fs::write(&path, "{").unwrap();
    let registry = Registry::start_with_password();
    let settings = RegistrySettings { credential_files: vec![path.clone()], ..settings() };
    let (_dir, store) = store();
    let name = reference(registry.address, "a");
    let error = store.pull(&name, &Platform::amd64(), &settings, |_| ()).await.unwrap_err();
    assert!(matches!(&error, PullError::Credentials { path: p, .. } if Path::new(p) == path), "{error}");
}
