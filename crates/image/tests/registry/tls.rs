//! A registry that speaks https, with a certificate that the machine trusts or does not.

use std::error::Error;
use std::iter::successors;
use std::path::Path;
use std::process::Command;

use walt_image::{Platform, RegistrySettings, Store};

use crate::layout::{TestImage, noise};
use crate::server::{Registry, reference};

/// Pulls `WALT_TEST_TLS_REF` as a machine does whose trusted certificates are `SSL_CERT_FILE`, and says how it went.
#[tokio::test(flavor = "multi_thread")]
async fn child_that_pulls_by_https() {
    let Ok(name) = std::env::var("WALT_TEST_TLS_REF") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let pulled = store.pull(&name.parse().unwrap(), &Platform::amd64(), &RegistrySettings::default(), |_| ()).await;
    match pulled {
        Ok(digest) => println!("pulled {digest}, complete: {}", store.is_complete(&digest)),
        Err(error) => {
            let causes: Vec<_> = successors(Some(&error as &dyn Error), |&error| error.source()).collect();
            println!("refused: {}", causes.iter().map(ToString::to_string).collect::<Vec<_>>().join(": "));
        }
    }
}

fn pull(registry: &Registry, trusted: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tls::child_that_pulls_by_https", "--nocapture"])
        .env("WALT_TEST_TLS_REF", reference(registry.address, "a").to_string())
        .env("SSL_CERT_FILE", trusted)
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn https_is_the_way_and_the_certificate_counts() {
    let image = TestImage::new(vec![noise(1, 300_000)]);
    let registry = Registry::start_with_tls();
    registry.push_image("a", &image, &[]);

    let trusting = pull(&registry, &registry.dir().join("ca.pem"));
    assert!(trusting.contains(&format!("pulled {}, complete: true", image.digest())), "{trusting}");

    let wary = pull(&registry, Path::new("/etc/ssl/certs/ca-certificates.crt"));
    assert!(wary.contains("refused: ") && wary.contains("certificate"), "{wary}");
}
