use std::time::Duration;

use api::{NodeState, Registration};

use super::*;

fn dhcp(kind: &'static str, client: &'static str) -> Seen {
    Seen::Dhcp { kind, client, ip: None }
}

fn file(path: &str) -> Seen {
    let duration = Duration::from_millis(10);
    Seen::File { service: "tftp", path: path.into(), bytes: 1000, duration, error: None }
}

fn agent(name: &str, ok: bool) -> Seen {
    Seen::Agent(wire::node::BootStep { name: name.into(), uptime_ms: 5, ok, detail: String::new() })
}

/// Sees all of it, one a second; returns how many boots began.
fn watch(timeline: &mut Timeline, seen: &[Seen], from_ms: i64) -> usize {
    let mut id = 0;
    let mut boots = 0;
    for (seen, second) in seen.iter().zip(0..) {
        let changes = timeline.see(seen, from_ms + second * 1000, || {
            id += 1;
            id
        });
        boots += changes.iter().filter(|change| matches!(change, Change::Boot { .. })).count();
    }
    boots
}

fn whole_boot() -> Vec<Seen> {
    vec![
        dhcp("discover", "pxe-bios"),
        dhcp("offer", "pxe-bios"),
        dhcp("request", "pxe-bios"),
        dhcp("ack", "pxe-bios"),
        file("pxe/undionly.kpxe"),
        dhcp("discover", "ipxe"),
        dhcp("ack", "ipxe"),
        dhcp("discover", "walt"),
        dhcp("ack", "walt"),
        file("start.ipxe"),
        file("kernel"),
        Seen::Mounted { image: "a".repeat(64) },
        agent("union", true),
        Seen::Up,
    ]
}

#[test]
fn a_whole_boot_is_one_timeline() {
    let mut timeline = Timeline::default();
    let seen = whole_boot();
    assert_eq!(watch(&mut timeline, &seen, 0), 1);
    assert_eq!(timeline.state(20_000), NodeState::Booted);
    let (started, steps) = timeline.steps().unwrap();
    let steps: Vec<_> = steps.collect();
    assert_eq!((started, steps.len()), (0, seen.len()));
    assert_eq!(steps.last().unwrap().name, "ssh-ready");
    assert_eq!(steps[4].detail, "tftp pxe/undionly.kpxe 1000 B in 0.010 s");
}

#[test]
fn an_earlier_stage_begins_a_new_boot_and_a_retransmission_does_not() {
    for (seen, boots) in [
        // not ready: the bootloader reboots into firmware that is iPXE
        (vec![dhcp("discover", "ipxe"), dhcp("ack", "walt"), dhcp("discover", "ipxe")], 2),
        // firmware chain-loads iPXE, then the machine is reset
        (vec![dhcp("discover", "pxe-uefi"), dhcp("discover", "ipxe"), dhcp("discover", "pxe-uefi")], 2),
        // retransmissions
        (vec![dhcp("discover", "pxe-bios"), dhcp("discover", "pxe-bios"), dhcp("discover", "pxe-bios")], 1),
        // other clients never begin one
        (vec![dhcp("discover", "other"), dhcp("ack", "other")], 0),
        // another DHCP server: acknowledgements alone
        (vec![dhcp("ack", "ipxe"), dhcp("ack", "walt"), file("kernel"), dhcp("ack", "ipxe")], 2),
        // loading the firmware's own loader is no sign of a bootloader past its DHCP
        (vec![dhcp("ack", "ipxe"), file("pxe/first-stage.ipxe"), dhcp("ack", "ipxe")], 1),
    ] {
        assert_eq!(watch(&mut Timeline::default(), &seen, 0), boots, "{seen:?}");
    }
}

/// A Raspberry Pi that boots by itself: its firmware's files are no part of the image, and what it only looks for is no
/// failure.
#[test]
fn a_boards_firmware_is_a_stage_of_its_boot() {
    let firmware = |path: &str, error: Option<&str>| {
        let (path, error) = (path.to_owned(), error.map(str::to_owned));
        Seen::File { service: "firmware", path, bytes: 0, duration: Duration::ZERO, error }
    };
    let begin = [dhcp("discover", "pxe-rpi"), dhcp("offer", "pxe-rpi"), firmware("start4.elf", None)];
    let mut timeline = Timeline::default();
    assert_eq!(watch(&mut timeline, &begin, 0), 1);
    assert_eq!(watch(&mut timeline, &[firmware("recover4.elf", Some("not found"))], 3000), 0);
    assert_eq!(timeline.step(4000).as_deref(), Some("firmware"));
    assert!(timeline.steps().unwrap().1.all(|step| step.status == api::StepStatus::Ok));
    assert_eq!(timeline.stuck(4000, &Registration::NotANode), None);
    // U-Boot, and a reset.
    let rest = [dhcp("discover", "other"), dhcp("ack", "walt"), file("start.uboot"), dhcp("discover", "pxe-rpi")];
    assert_eq!(watch(&mut timeline, &rest, 5000), 1);
    watch(&mut timeline, &[firmware("bootcode.bin", Some("this server has no Raspberry Pi firmware"))], 10_000);
    let stuck = timeline.stuck(10_100, &Registration::NotANode).unwrap();
    assert!(stuck.hint.contains("bootcode.bin: this server has no"), "{stuck:?}");
}

#[test]
fn a_node_that_reboots_leaves_its_connection_behind() {
    let mut timeline = Timeline::default();
    watch(&mut timeline, &whole_boot(), 0);
    let lost = |timeline: &mut Timeline| timeline.see(&Seen::Lost, 30_000, || 9);
    let mut crashed = timeline.clone();
    lost(&mut crashed);
    assert_eq!(crashed.state(31_000), NodeState::Unreachable);

    timeline.see(&Seen::RebootRequested, 29_000, || 9);
    assert_eq!(timeline.state(29_100), NodeState::Booting, "though its connection is still there");
    lost(&mut timeline);
    assert_eq!(timeline.state(31_000), NodeState::Booting);
    assert_eq!(timeline.step(31_000).as_deref(), Some("rebooting"));
    assert_eq!(watch(&mut timeline, &whole_boot(), 40_000), 1);
    assert_eq!(timeline.state(60_000), NodeState::Booted);
}

#[test]
fn a_restarted_server_goes_on_with_the_boot_it_knew() {
    let mut before = Timeline::default();
    let mut steps = Vec::new();
    for seen in whole_boot() {
        steps.extend(before.see(&seen, 0, || 7).into_iter().filter_map(|change| match change {
            Change::Step(step) => Some(step),
            Change::Boot { .. } => None,
        }));
    }
    let mut after = Timeline::restore(7, 0, steps);
    assert_eq!(after.state(1000), NodeState::Unreachable);
    let changes = after.see(&Seen::Up, 2000, || unreachable!("no boot begins"));
    assert!(matches!(&changes[..], [Change::Step(step)] if step.name == "reconnected"), "{changes:?}");
    assert_eq!(after.state(3000), NodeState::Booted);
}

#[test]
fn a_silent_boot_is_stuck_where_it_fell_silent() {
    let ready = Registration::Ready;
    let all = whole_boot();
    for (count, words) in [
        (4, "boot file"),
        (7, "first-stage script"),
        (9, "second-stage script"),
        (11, "NFS mount"),
        (12, "first step of the agent"),
        (13, "ssh"),
    ] {
        let mut timeline = Timeline::default();
        watch(&mut timeline, &all[..count], 0);
        assert_eq!(timeline.stuck(count as i64 * 1000, &ready), None, "{count}");
        let stuck = timeline.stuck(200_000, &ready).unwrap();
        assert!(stuck.waiting_for.contains(words), "{count}: {stuck:?}");
    }
    let mut timeline = Timeline::default();
    watch(&mut timeline, &all, 0);
    assert_eq!(timeline.stuck(200_000, &ready), None);
}

#[test]
fn the_image_and_the_agent_tell_their_reason_at_once() {
    let mut timeline = Timeline::default();
    watch(&mut timeline, &whole_boot()[..9], 0);
    let failed =
        Registration::Failed { step: "pull".into(), cause: "connection refused".into(), retry_at: None, attempts: 1 };
    assert_eq!(timeline.stuck(9000, &failed).unwrap().hint, "connection refused");
    let pulling = Registration::Pulling { done: 25, total: 100, trouble: None };
    assert!(timeline.stuck(9000, &pulling).unwrap().waiting_for.contains("25 %"));
    timeline.see(&agent("union", false), 9000, || 1);
    assert!(timeline.stuck(9100, &Registration::Ready).unwrap().waiting_for.contains("agent:union"));
}

#[test]
fn hostile_text_is_bounded_and_harmless() {
    let mut timeline = Timeline::default();
    for _ in 0..2 * MAX_STEPS {
        timeline.see(&file(&"é\n\x1b[2J".repeat(1000)), 0, || 1);
    }
    let steps: Vec<_> = timeline.steps().unwrap().1.collect();
    assert_eq!(steps.len(), MAX_STEPS);
    assert!(steps[0].detail.len() < 2 * MAX_DETAIL && !steps[0].detail.chars().any(char::is_control));
}
