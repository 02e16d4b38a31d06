//! Registries and networks that fail.

use std::fs;
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use walt_image::{Platform, PullError, PullProgress};

use crate::layout::{TestImage, noise};
use crate::proxy::{Action, Proxy};
use crate::server::{Registry, files, reference, settings, store};

/// One image with one layer of about a megabyte when compressed.
fn large() -> TestImage {
    TestImage::new(vec![noise(7, 1_000_000)])
}

fn pushed(image: &TestImage) -> Registry {
    let registry = Registry::start();
    registry.push_image("a", image, &[]);
    registry
}

/// Applies `fault` to requests for large blobs, as told by how many there were before.
fn on_layer(registry: &Registry, config_hex: String, fault: impl Fn(usize) -> Action + Send + Sync + 'static) -> Proxy {
    let count = AtomicUsize::new(0);
    Proxy::start(registry.address, move |request| {
        if request.is_blob() && !request.path.contains(&config_hex) {
            fault(count.fetch_add(1, Ordering::Relaxed))
        } else {
            Action::Forward
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn resumes_after_cuts_where_it_was() {
    let image = large();
    let registry = pushed(&image);
    let proxy = on_layer(&registry, image.digest().hex(), |n| match n {
        0 => Action::Cut(200_000),
        1 => Action::Cut(0),
        2 => Action::Cut(300_001),
        _ => Action::Forward,
    });
    let (_dir, store) = store();
    let retries = Mutex::new(0);
    let note = |p| {
        if let PullProgress::Retry(_) = p {
            *retries.lock().unwrap() += 1;
        }
    };
    let pulled = store.pull(&reference(proxy.address, "a"), &Platform::amd64(), &settings(), note).await.unwrap();
    assert_eq!(pulled, image.digest());
    assert!(fs::read(store.layer_path(&image.diff_ids()[0])).unwrap() == image.layers[0]);
    assert_eq!(*retries.lock().unwrap(), 3);
    let ranges: Vec<_> = proxy.requests().iter().filter_map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, ["bytes=200000-", "bytes=200000-", "bytes=500001-"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn resumes_from_a_registry_without_ranges() {
    let image = large();
    let registry = pushed(&image);
    let proxy =
        on_layer(&registry, image.digest().hex(), |n| if n == 0 { Action::Cut(200_000) } else { Action::NoRange });
    let (_dir, store) = store();
    store.pull(&reference(proxy.address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap();
    assert!(fs::read(store.layer_path(&image.diff_ids()[0])).unwrap() == image.layers[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_falls_silent_is_asked_again() {
    let image = large();
    let registry = pushed(&image);
    let proxy =
        on_layer(&registry, image.digest().hex(), |n| if n == 0 { Action::Stall(5000) } else { Action::Forward });
    let (_dir, store) = store();
    let quick = walt_image::RegistrySettings { idle_timeout: Duration::from_millis(300), ..settings() };
    store.pull(&reference(proxy.address, "a"), &Platform::amd64(), &quick, |_| ()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_answers_are_waited_out_as_long_as_the_registry_says() {
    let image = large();
    let registry = pushed(&image);
    let count = AtomicUsize::new(0);
    let proxy = Proxy::start(registry.address, move |_| match count.fetch_add(1, Ordering::Relaxed) {
        // The very first request goes to the TLS greeting's successor: the probe for plain http.
        0 | 2 => Action::Reply("503 Service Unavailable", vec![], String::new()),
        3 => Action::Reply("429 Too Many Requests", vec!["Retry-After: 1".to_owned()], String::new()),
        _ => Action::Forward,
    });
    let (_dir, store) = store();
    let pauses = Mutex::new(Vec::new());
    let note = |p| {
        if let PullProgress::Retry(retry) = p {
            pauses.lock().unwrap().push((retry.pause, retry.cause));
        }
    };
    store.pull(&reference(proxy.address, "a"), &Platform::amd64(), &settings(), note).await.unwrap();
    let pauses = pauses.into_inner().unwrap();
    assert_eq!(pauses.len(), 3, "{pauses:?}");
    assert!(
        pauses.iter().any(|(pause, cause)| *pause == Duration::from_secs(1) && cause.contains("429")),
        "{pauses:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_given_up_by_name() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (_dir, store) = store();
    let error = store.pull(&reference(address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { attempts: 4, .. }), "{error}");
    assert!(error.to_string().contains(&address.to_string()) && error.to_string().contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_cuts_end() {
    let image = large();
    let registry = pushed(&image);
    let proxy = on_layer(&registry, image.digest().hex(), |_| Action::Cut(10));
    let (_dir, store) = store();
    let error = store.pull(&reference(proxy.address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(matches!(error, PullError::Unreachable { .. }), "{error}");
    assert!(files(&store, "layers").is_empty() && files(&store, "configs").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_layer_is_fetched_once_more_then_refused() {
    let image = large();
    let registry = pushed(&image);
    let once =
        on_layer(&registry, image.digest().hex(), |n| if n == 0 { Action::Corrupt(500_000) } else { Action::Forward });
    let (_dir, first) = store();
    first.pull(&reference(once.address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap();

    let always = on_layer(&registry, image.digest().hex(), |_| Action::Corrupt(500_000));
    let (_dir, second) = store();
    let error =
        second.pull(&reference(always.address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(matches!(&error, PullError::Layer { layer, .. } if *layer == image.diff_ids()[0]), "{error}");
    assert!(files(&second, "layers").is_empty(), "{:?}", files(&second, "layers"));
    assert!(files(&second, "configs").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_documents_are_refused() {
    let image = large();
    let registry = pushed(&image);
    let config = image.digest().hex();
    let proxy = Proxy::start(registry.address, move |request| {
        // A letter of a label: JSON it stays.
        if request.path.contains(&config) { Action::Corrupt(30) } else { Action::Forward }
    });
    let (_dir, store) = store();
    let error = store.pull(&reference(proxy.address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(matches!(error, PullError::WrongDigest { what: "configuration", .. }), "{error}");

    let manifest = registry.manifest_digest("a");
    let proxy = Proxy::start(registry.address, |request| {
        if request.path.contains("/manifests/") { Action::Corrupt(30) } else { Action::Forward }
    });
    let pinned = format!("{}/a@{manifest}", proxy.address).parse().unwrap();
    let error = store.pull(&pinned, &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(matches!(error, PullError::WrongDigest { what: "manifest", .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_documents_are_refused() {
    let endless = "x".repeat(5 << 20);
    let proxy = Proxy::start("127.0.0.1:9".parse().unwrap(), move |request| {
        let body = if request.path.ends_with("/v2/") { String::new() } else { endless.clone() };
        Action::Reply("200 OK", vec![], body)
    });
    let (_dir, store) = store();
    let error = store.pull(&reference(proxy.address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    assert!(matches!(&error, PullError::Protocol { cause, .. } if cause.contains("4194304")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_pulls_fetch_a_shared_layer_once() {
    let image = large();
    let registry = pushed(&image);
    let proxy = on_layer(&registry, image.digest().hex(), |_| Action::Delay(Duration::from_millis(300)));
    let (_dir, store) = store();
    let name = reference(proxy.address, "a");
    let pull = || async { store.pull(&name, &Platform::amd64(), &settings(), |_| ()).await };
    let (a, b) = tokio::join!(pull(), pull());
    assert_eq!((a.unwrap(), b.unwrap()), (image.digest(), image.digest()));
    let config = image.digest().hex();
    let layers = proxy.requests().iter().filter(|r| r.is_blob() && !r.path.contains(&config)).count();
    assert_eq!(layers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_dropped_leaves_nothing_half_done() {
    let image = large();
    let registry = pushed(&image);
    let proxy = on_layer(&registry, image.digest().hex(), |_| Action::Stall(100_000));
    let (_dir, store) = store();
    let name = reference(proxy.address, "a");
    {
        let (platform, settings) = (Platform::amd64(), settings());
        let pull = store.pull(&name, &platform, &settings, |_| ());
        assert!(tokio::time::timeout(Duration::from_millis(700), pull).await.is_err());
    }
    for _ in 0..100 {
        if files(&store, "layers").is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("left: {:?}", files(&store, "layers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_cut_in_the_registry_itself_is_refused() {
    let image = large();
    let registry = pushed(&image);
    let hex = walt_image::Digest::of(&crate::layout::gzip(&image.layers[0])).hex();
    let file = registry.blob_file(&hex);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let (_dir, store) = store();
    let error =
        store.pull(&reference(registry.address, "a"), &Platform::amd64(), &settings(), |_| ()).await.unwrap_err();
    // 416 when we ask for the rest, or the same end again and again.
    assert!(matches!(error, PullError::Unreachable { .. } | PullError::Protocol { .. }), "{error}");
    assert!(files(&store, "layers").is_empty());
}
