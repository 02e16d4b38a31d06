//! Boards that boot by their own firmware: unknown, with and without their image, and while the server stops.

mod card;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use testbed::boards::{Answer, Board, KINDS};
use testbed::host::Host;
use testbed::lab::{BRIDGE, SERVER};
use testbed::peers::Registry;
use testbed::process::run as run_program;

use super::stage::Stage;
use card::{Card, boot_files};

/// What the boards of a lab are called.
const NAMES: [&str; 4] = ["pi3", "pi3plus", "pi4", "pi5"];
/// The server tries a pull again after at most a minute.
const IMAGE_ARRIVES: Duration = Duration::from_secs(150);

pub(super) fn run(stage: &mut Stage<'_>) -> Result<()> {
    stage.start_registry()?;
    stage.start_daemon(&format!("{}/{}", Registry::HOST, card::IMAGE), "")?;
    let mut boards = Vec::new();
    for (number, (kind, name)) in (1..).zip(KINDS.iter().zip(NAMES)) {
        boards.push(Board::plug_in(stage.lab, kind, name, number)?);
    }

    without_firmware(stage, &mut boards)?;
    let card = Card::new();
    card.write(&stage.daemon()?.state().join("rpi-firmware"))?;
    restart(stage)?;
    for board in &mut boards {
        unknown(stage, board, &card)?;
    }
    for board in &mut boards {
        not_ready(stage, board, &card)?;
    }
    strangers(stage)?;
    arrives(stage, &mut boards[0])?;
    for board in &mut boards {
        ready(stage, board, &card)?;
    }
    deaf_to_arp(stage, &mut boards[0], &card)?;
    server_stops(stage, &mut boards, &card)
}

fn restart(stage: &mut Stage<'_>) -> Result<()> {
    stage.daemon()?.ask_to_stop()?;
    let took = stage.daemon()?.wait_for_end(Duration::from_secs(30))?;
    stage.check("nobody waits for boards that cannot boot", took < Duration::from_secs(5), format!("{took:.1?}"))?;
    stage.daemon()?.resume()
}

fn without_firmware(stage: &mut Stage<'_>, boards: &mut [Board]) -> Result<()> {
    for (board, first) in boards.iter_mut().zip(["bootcode.bin", "bootcode.bin", "start4.elf", "config.txt"]) {
        let Err(error) = board.power_on() else { bail!("a {} boots from nothing", board.kind.model) };
        let what = format!("without a firmware directory a {} is refused {first} at once", board.kind.model);
        let error = format!("{error:#}");
        stage.check(&what, error.contains(first), &error)?;
        let trace = stage.daemon()?.walt(&["node", "trace", &board.mac])?;
        stage.check("its trace says what is missing", trace.contains("no Raspberry Pi firmware"), "")?;
    }
    let log = stage.daemon()?.log()?;
    let lines = log.matches("a Raspberry Pi asks for its firmware").count();
    stage.check("the log says so once", lines == 1, lines)
}

/// The firmware, and U-Boot to its prompt or script, of a board in any state.
fn firmware_and_uboot(stage: &mut Stage<'_>, board: &mut Board, card: &Card, own: &[&str]) -> Result<()> {
    let model = board.kind.model;
    let loaded = board.power_on().with_context(|| format!("the firmware of the {model}"))?;
    let differences = card.differences(&loaded);
    let names: Vec<_> = loaded.files.keys().map(String::as_str).collect();
    let seen = format!(
        "{}; {} that need not be there refused, the slowest in {:.1} ms",
        names.join(" "),
        loaded.refused.len(),
        loaded.slowest_refusal.as_secs_f64() * 1000.0
    );
    let what = match own {
        [] => format!("{model}: option 43 as its firmware needs it, each file as in the firmware directory"),
        own => format!("{model}: the same, but {} of its image", own.join(" ")),
    };
    let seen = if differences == own { seen } else { format!("others are {}", differences.join(" ")) };
    stage.check(&what, differences == own, seen)?;
    let script = board.uboot().with_context(|| format!("U-Boot of the {model}"))?;
    stage.check(&format!("{model}: U-Boot finds its first stage"), script == card.file("boot.scr"), "boot.scr.uimg")
}

fn unknown(stage: &mut Stage<'_>, board: &mut Board, card: &Card) -> Result<()> {
    firmware_and_uboot(stage, board, card, &[])?;
    let node = stage.daemon()?.node(&board.mac)?.context("the server has not seen the board")?;
    let model = board.kind.model;
    let is_unknown = node.kind == api::NodeKind::Unknown && node.model.is_none();
    stage.check(&format!("{model}: all that as an unknown device"), is_unknown, &node.name)?;
    let steps = stage.steps(&board.mac)?;
    // The boot is the same as before: a firmware that tries again is no other boot.
    let before = |step: &&api::Step| !step.detail.contains("no Raspberry Pi firmware");
    let failed = steps.iter().filter(before).filter(|step| step.status != api::StepStatus::Ok).count();
    let files = steps.iter().filter(|step| step.name == "firmware-file").count();
    let seen = format!("{files} files, {failed} failed steps");
    stage.check(
        &format!("{model}: its trace has its firmware's files and no failure"),
        files > 5 && failed == 0,
        seen,
    )?;
    let again = board.first_stage()?;
    let node = stage.daemon()?.node(&board.mac)?.context("the server has forgotten the board")?;
    let is_node = node.kind == api::NodeKind::Node && node.model.as_deref() == Some(model);
    stage.check(&format!("{model}: registered by U-Boot's DHCP"), is_node, format!("{}, {:?}", node.name, again.script))
}

fn not_ready(stage: &mut Stage<'_>, board: &mut Board, card: &Card) -> Result<()> {
    firmware_and_uboot(stage, board, card, &[])?;
    let answer = board.first_stage()?.script;
    let refused = matches!(&answer, Answer::Refused { text, .. } if text == "not ready");
    let what = format!("{}: registered, and its image is in no registry: start.uboot makes it reset", board.kind.model);
    stage.check(&what, refused, format!("{answer:?}"))
}

/// What is not a board's firmware gets nothing of it.
fn strangers(stage: &mut Stage<'_>) -> Result<()> {
    let host = Host::plug_in(stage.lab, "pc", "52:54:00:b0:a2:d5")?;
    host.lease("MSFT 5.0")?;
    for path in ["bootcode.bin", "d9780501/start4.elf", "overlays/disable-bt.dtbo"] {
        let mut tftp = host.command("busybox");
        let got = run_program(tftp.args(["tftp", "-g", "-r", path, "-l", "/dev/null", &SERVER.to_string()]));
        let Err(error) = got else { bail!("a PC is given {path}") };
        stage.check(&format!("a PC is refused {path}"), format!("{error:#}").contains("not a node"), "")?;
    }
    Ok(())
}

/// The image is pushed, and one board goes on resetting until it is there.
fn arrives(stage: &mut Stage<'_>, board: &mut Board) -> Result<()> {
    stage.push(&card::image()?)?;
    let begun = Instant::now();
    for resets in 0.. {
        board.power_on()?;
        board.uboot()?;
        if let Answer::File(script) = board.first_stage()?.script {
            let expected = &boot_files(board.kind.model)[0].1;
            let seen = format!("after {resets} resets, {:.0} s", begun.elapsed().as_secs_f64());
            let what = "once the image is pushed, a board that comes again gets its start.uboot";
            return stage.check(what, script == *expected, seen);
        }
        if begun.elapsed() > IMAGE_ARRIVES {
            bail!("the image has not arrived after {IMAGE_ARRIVES:?}");
        }
        thread::sleep(Duration::from_secs(1));
    }
    Ok(())
}

fn ready(stage: &mut Stage<'_>, board: &mut Board, card: &Card) -> Result<()> {
    // What the image has of its own goes first.
    firmware_and_uboot(stage, board, card, &["cmdline.txt"])?;
    second_stage(stage, board)?;
    let model = board.kind.model;
    let mut second = board.first_stage()?;
    let answer = board.load(&mut second, "config.txt")?;
    let refused = matches!(&answer, Answer::Refused { text, .. } if text == "not found");
    stage.check(&format!("{model}: U-Boot is given nothing that its image does not have"), refused, "config.txt")
}

/// The start script and what it names, from the image.
fn second_stage(stage: &mut Stage<'_>, board: &mut Board) -> Result<()> {
    let model = board.kind.model;
    let [script, files @ ..] = boot_files(model);
    let mut second = board.first_stage()?;
    let mut wrong = Vec::new();
    if second.script != Answer::File(script.1) {
        wrong.push("start.uboot");
    }
    for (name, content) in files {
        if board.load(&mut second, name)? != Answer::File(content) {
            wrong.push(name);
        }
    }
    let what = format!("{model}: ready: start.uboot, kernel and dtb are its image's");
    stage.check(&what, wrong.is_empty(), wrong.join(" "))
}

/// A Pi 3B answers no ARP while it loads files, and a kernel that has heard nothing of a neighbour asks after some seconds:
/// here after one, so that the test need not load for so long.
fn deaf_to_arp(stage: &mut Stage<'_>, board: &mut Board, card: &Card) -> Result<()> {
    for (name, value) in
        [("delay_first_probe_time", "1"), ("retrans_time_ms", "100"), ("base_reachable_time_ms", "500")]
    {
        fs::write(format!("/proc/sys/net/ipv4/neigh/{BRIDGE}/{name}"), value)
            .with_context(|| format!("cannot set {name}"))?;
    }
    board.answers_arp(false)?;
    let begun = Instant::now();
    // 5,819 blocks of 512 bytes.
    let loaded = board.power_on_paced(Duration::from_micros(500))?;
    let took = begun.elapsed();
    board.answers_arp(true)?;
    let whole = card.differences(&loaded) == ["cmdline.txt"] && took > Duration::from_secs(3);
    let what = "a board that answers no ARP is sent its files as long as it acknowledges them";
    stage.check(what, whole, format!("{:.1} s", took.as_secs_f64()))?;
    board.uboot()?;
    second_stage(stage, board)
}

/// The server is asked to stop while a board loads the largest file of its firmware.
fn server_stops(stage: &mut Stage<'_>, boards: &mut [Board], card: &Card) -> Result<()> {
    let [.., loading, other] = boards else { bail!("two boards are needed") };
    let begun = Instant::now();
    let loaded = thread::scope(|scope| {
        // 2,204 blocks of 1024 bytes: some 4 s.
        let board = scope.spawn(|| loading.power_on_paced(Duration::from_millis(1)));
        thread::sleep(Duration::from_secs(1));
        stage.daemon()?.ask_to_stop()?;
        thread::sleep(Duration::from_millis(200));
        let offered = other.is_offered_an_address()?;
        let what = "once the server was asked to stop, no firmware is offered an address";
        stage.check(what, !offered && !board.is_finished(), "")?;
        stage.daemon()?.check()?;
        board.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let whole = card.differences(&loaded) == ["cmdline.txt"] && loaded.files.contains_key("start4.elf");
    let seen = format!("{:.1} s", begun.elapsed().as_secs_f64());
    stage.check("the board that is under way gets all its firmware", whole, seen)?;
    loading.uboot()?;
    let Answer::File(script) = loading.first_stage()?.script else { bail!("no start script") };
    let text = String::from_utf8_lossy(script.get(72..).unwrap_or_default()).into_owned();
    let again = boot::uboot::script_image(&text) == script && text.contains("reset") && text.contains("stopped");
    stage.check("its start script says why, waits and resets", again, text.replace('\n', "; "))?;
    let listing = list_image(stage, &script)?;
    stage.check("mkimage reads that script", listing.contains("Script"), listing.replace('\n', "; "))?;
    let took = stage.daemon()?.wait_for_end(Duration::from_secs(20))?;
    stage.check("then the server ends, without an error", took < Duration::from_secs(3), format!("{took:.1?}"))?;

    stage.daemon()?.resume()?;
    for board in [loading, other] {
        firmware_and_uboot(stage, board, card, &["cmdline.txt"])?;
        second_stage(stage, board)?;
    }
    Ok(())
}

fn list_image(stage: &Stage<'_>, script: &[u8]) -> Result<String> {
    let path = stage.lab.state().join("try-again");
    fs::write(&path, script)?;
    run_program(Command::new("mkimage").arg("-l").arg(&path))
}
