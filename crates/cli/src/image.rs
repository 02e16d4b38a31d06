//! `walt image`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context, Error};
use api::{FileEntry, Image, ImageFormat, ImageState, Removed};

use crate::args::{Format, ImageCommand};
use crate::http::{Client, HttpError, Sent, target};
use crate::node::familiar;
use crate::report::{self, say};
use crate::{progress, table};

pub(crate) fn run(client: &Client, command: ImageCommand) -> Result<(), Error> {
    match command {
        ImageCommand::Show { json } => show(client, json),
        ImageCommand::Clone { image, platform } => {
            let query = with_platform(vec![("image", image.as_str())], platform.as_deref());
            let body = client.send("POST", &target(&["v1", "images", "clone"], &query), Sent::Nothing)?;
            say(progress::follow(body)?)
        }
        ImageCommand::Import { file, name } => import(client, &file, name.as_deref()),
        ImageCommand::Export { image, file, format, platform } => {
            export(client, &image, &file, format, platform.as_deref())
        }
        ImageCommand::Ls { image, path, json } => ls(client, &image, &path, json),
        ImageCommand::Cat { image, path } => {
            let query = [("image", image.as_str()), ("path", path.as_str())];
            let body = client.send("GET", &target(&["v1", "images", "content"], &query), Sent::Nothing)?;
            copy(body, &mut io::stdout().lock(), "standard output").map(drop)
        }
        ImageCommand::Remove { image } => {
            let target = target(&["v1", "images"], &[("image", &image)]);
            let removed: Removed = client.send("DELETE", &target, Sent::Nothing)?.json()?;
            say(format_args!("{} is removed", removed.name))
        }
    }
}

fn show(client: &Client, json: bool) -> Result<(), Error> {
    let images: Vec<Image> = client.get("/v1/images")?;
    if json {
        return report::json(&images);
    }
    if images.is_empty() {
        return say("there is no image yet: `walt image clone REF` gets one");
    }
    let rows: Vec<_> = images
        .iter()
        .map(|image| {
            [
                familiar(&image.name),
                image.platform.as_deref().map_or("-", |text| text.strip_prefix("linux/").unwrap_or(text)).to_owned(),
                state(&image.state),
                report::bytes(image.size),
                image.models.join(","),
                image.created.clone().unwrap_or_default().chars().take(10).collect(),
                image.nodes.join(","),
            ]
        })
        .collect();
    table::print(["image", "platform", "state", "size", "models", "built", "nodes"], &rows)
}

fn state(state: &ImageState) -> String {
    match state {
        ImageState::Present => "present".into(),
        ImageState::Pulling { done, total } => match (done.saturating_mul(100)).checked_div(*total) {
            Some(percent) => format!("arriving, {percent} %"),
            None => "arriving".into(),
        },
        ImageState::Failed { cause } => format!("failed: {cause}"),
        ImageState::Missing => "missing".into(),
    }
}

fn import(client: &Client, file: &Path, name: Option<&str>) -> Result<(), Error> {
    let mut source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).with_context(|| format!("can not open {}", file.display()))?)
    };
    let query: Vec<_> = name.iter().map(|name| ("name", *name)).collect();
    let body = client.send("POST", &target(&["v1", "images", "import"], &query), Sent::Stream(&mut source))?;
    say(progress::follow(body)?)
}

fn with_platform<'a>(mut query: Vec<(&'a str, &'a str)>, platform: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    query.extend(platform.map(|platform| ("platform", platform)));
    query
}

fn export(client: &Client, image: &str, file: &Path, format: Format, platform: Option<&str>) -> Result<(), Error> {
    let format = match ImageFormat::from(format) {
        ImageFormat::Oci => "oci",
        ImageFormat::Docker => "docker",
    };
    let query = with_platform(vec![("image", image), ("format", format)], platform);
    let body = client.send("GET", &target(&["v1", "images", "export"], &query), Sent::Nothing)?;
    if file == Path::new("-") {
        return copy(body, &mut io::stdout().lock(), "standard output").map(drop);
    }
    let path = file.display().to_string();
    let mut sink = File::create(file).with_context(|| format!("can not write {path}"))?;
    let result = copy(body, &mut sink, &path).and_then(|size| {
        sink.sync_all().with_context(|| format!("can not write {path}"))?;
        Ok(size)
    });
    match result {
        Ok(size) => say(format_args!("{image} is in {path}, {}", report::bytes(size))),
        Err(error) => {
            // A part of an archive is of no use, and looks like one that is.
            let _ = std::fs::remove_file(file);
            Err(error)
        }
    }
}

fn ls(client: &Client, image: &str, path: &str, json: bool) -> Result<(), Error> {
    let entries: Vec<FileEntry> =
        client.get(&target(&["v1", "images", "files"], &[("image", image), ("path", path)]))?;
    if json {
        return report::json(&entries);
    }
    for entry in &entries {
        let arrow = entry.target.as_ref().map(|target| format!(" -> {target}")).unwrap_or_default();
        // A name in an image may be anything, and this goes to a terminal.
        let name: String =
            format!("{}{arrow}", entry.name).chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        say(format_args!("{} {:>5} {:>5} {:>12} {name}", mode(entry), entry.uid, entry.gid, entry.size))?;
    }
    Ok(())
}

/// `drwxr-xr-x`, as ls(1) writes it.
fn mode(entry: &FileEntry) -> String {
    let kind = match entry.kind.as_str() {
        "directory" => 'd',
        "symlink" => 'l',
        "block" => 'b',
        "char" => 'c',
        "fifo" => 'p',
        "socket" => 's',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, entry.mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

fn copy(mut body: impl Read, sink: &mut impl Write, name: &str) -> Result<u64, Error> {
    let mut chunk = vec![0; 256 * 1024];
    let mut size = 0;
    loop {
        match body.read(&mut chunk).map_err(HttpError::Broken)? {
            0 => break,
            read => {
                sink.write_all(&chunk[..read]).with_context(|| format!("can not write {name}"))?;
                size += read as u64;
            }
        }
    }
    sink.flush().with_context(|| format!("can not write {name}"))?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_written_as_ls_does() {
        let entry = |kind: &str, mode| FileEntry {
            name: String::new(),
            kind: kind.into(),
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            target: None,
        };
        for (kind, bits, text) in [
            ("file", 0o644, "-rw-r--r--"),
            ("directory", 0o1777, "drwxrwxrwt"),
            ("file", 0o4755, "-rwsr-xr-x"),
            ("file", 0o2644, "-rw-r-Sr--"),
            ("symlink", 0o777, "lrwxrwxrwx"),
        ] {
            assert_eq!(mode(&entry(kind, bits)), text);
        }
    }
}
