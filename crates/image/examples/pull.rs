//! Pulls an image and makes it ready as the server does, to "a node could boot": layers, the server's own layer, index,
//! mount. Prints how long each part took as JSON.
//!
//! `pull REFERENCE --root DIR --agent FILE [--insecure] [--platform ARCHITECTURE[/VARIANT]]`

use std::path::PathBuf;
use std::time::Instant;

use walt_image::mount::Mounts;
use walt_image::server_layer::{Base, HostKeys, Ports, ServerFiles, ServerKey, prepare};
use walt_image::{LayerFiles, Platform, Reference, RegistrySettings, Store};

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let started = Instant::now();
    let Arguments { reference, root, agent, platform, settings } = arguments()?;
    let store = Store::open(&root)?;
    let files = ServerFiles {
        agent: std::fs::read(agent)?,
        server_ip: [10, 0, 0, 1].into(),
        server_mac: [2, 0, 0, 0, 0, 1],
        ports: Ports::default(),
        authorized_key: ServerKey::load_or_create(&root)?.public,
        host_keys: HostKeys::load_or_create(&root)?,
        hosts: vec![([10, 0, 0, 1].into(), "walt-server".into())],
        name_servers: vec![[10, 0, 0, 1].into()],
        domain: None,
        time_zone: None,
    };
    let opened = Instant::now();
    let image = store.pull(&reference, &platform, &settings, |_| ()).await?;
    let pulled = Instant::now();
    let info = store.info(&image)?;
    let layers = LayerFiles::new(store.layers_dir());
    let base = Base::new(&layers, info.layers.iter().map(|(layer, _)| *layer));
    let platform = store.platform(&image, &base)?;
    let view = prepare(&store.images_dir(), &image, &base, &files)?;
    let prepared = Instant::now();
    let mounts = Mounts::new(store.images_dir());
    mounts.mount(&view)?;
    let mounted = Instant::now();
    mounts.unmount(&files.image_id(&image));
    let (pull, size) = ((pulled - opened).as_secs_f64(), info.size as f64 / 1e6);
    println!(
        "{}",
        serde_json::json!({
            "image": image.to_string(),
            "platform": platform.to_string(),
            "layers": info.layers.len(),
            "inodes": view.inode_count(),
            "uncompressed_mb": size,
            "open_s": (opened - started).as_secs_f64(),
            "pull_s": pull,
            "prepare_s": (prepared - pulled).as_secs_f64(),
            "mount_s": (mounted - prepared).as_secs_f64(),
            "total_s": (mounted - started).as_secs_f64(),
            "pull_mb_per_s": size / pull,
        })
    );
    Ok(())
}

struct Arguments {
    reference: Reference,
    root: PathBuf,
    agent: PathBuf,
    platform: Platform,
    settings: RegistrySettings,
}

fn arguments() -> Result<Arguments, Error> {
    let (mut reference, mut root, mut agent) = (None, None, None);
    let (mut platform, mut insecure) = (Platform::amd64(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--root" => root = arguments.next(),
            "--agent" => agent = arguments.next(),
            "--insecure" => insecure = true,
            "--platform" => {
                let value = arguments.next().ok_or("--platform wants a value")?;
                let (architecture, variant) = value.split_once('/').map_or((&*value, None), |(a, v)| (a, Some(v)));
                platform = Platform::linux(architecture, variant);
            }
            _ => reference = Some(argument.parse::<Reference>()?),
        }
    }
    let reference =
        reference.ok_or("which image? pull REFERENCE --root DIR --agent FILE [--insecure] [--platform …]")?;
    let mut settings = RegistrySettings::default();
    if insecure {
        settings.insecure.push(reference.registry().to_owned());
    }
    let root = root.ok_or("--root DIR is missing")?.into();
    let agent = agent.ok_or("--agent FILE is missing")?.into();
    Ok(Arguments { reference, root, agent, platform, settings })
}
