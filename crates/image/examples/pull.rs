//! Pulls an image and builds its index, to "a node could boot", and prints how long each part took as JSON.
//!
//! `pull REFERENCE --root DIR [--insecure] [--platform ARCHITECTURE[/VARIANT]]`

use std::path::PathBuf;
use std::time::Instant;

use walt_image::{LayerFiles, Platform, Reference, RegistrySettings, Store, View, index};

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let started = Instant::now();
    let Arguments { reference, root, platform, settings } = arguments()?;
    let store = Store::open(root)?;
    let opened = Instant::now();
    let image = store.pull(&reference, &platform, &settings, |_| ()).await?;
    let pulled = Instant::now();
    let info = store.info(&image)?;
    let files = LayerFiles::new(store.layers_dir());
    let entries =
        info.layers.iter().map(|(layer, _)| Ok((*layer, files.entries(*layer)?))).collect::<Result<Vec<_>, Error>>()?;
    let stack: Vec<_> = entries.iter().map(|(layer, entries)| (*layer, entries)).collect();
    let dir = store.images_dir().join(image.hex());
    std::fs::create_dir_all(&dir)?;
    index::write(&index::build(&stack, &image.hex())?, &dir.join("index"))?;
    let view = View::open(&dir.join("index"), &files)?;
    let indexed = Instant::now();
    let (pull, size) = ((pulled - opened).as_secs_f64(), info.size as f64 / 1e6);
    println!(
        "{}",
        serde_json::json!({
            "image": image.to_string(),
            "layers": info.layers.len(),
            "inodes": view.inode_count(),
            "uncompressed_mb": size,
            "open_s": (opened - started).as_secs_f64(),
            "pull_s": pull,
            "index_s": (indexed - pulled).as_secs_f64(),
            "total_s": (indexed - started).as_secs_f64(),
            "pull_mb_per_s": size / pull,
        })
    );
    Ok(())
}

struct Arguments {
    reference: Reference,
    root: PathBuf,
    platform: Platform,
    settings: RegistrySettings,
}

fn arguments() -> Result<Arguments, Error> {
    let (mut reference, mut root, mut platform, mut insecure) = (None, None, Platform::amd64(), false);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--root" => root = arguments.next(),
            "--insecure" => insecure = true,
            "--platform" => {
                let value = arguments.next().ok_or("--platform wants a value")?;
                let (architecture, variant) = value.split_once('/').map_or((&*value, None), |(a, v)| (a, Some(v)));
                platform = Platform::linux(architecture, variant);
            }
            _ => reference = Some(argument.parse::<Reference>()?),
        }
    }
    let reference = reference.ok_or("which image? pull REFERENCE --root DIR [--insecure] [--platform ARCHITECTURE]")?;
    let mut settings = RegistrySettings::default();
    if insecure {
        settings.insecure.push(reference.registry().to_owned());
    }
    Ok(Arguments { reference, root: root.ok_or("--root DIR is missing")?.into(), platform, settings })
}
