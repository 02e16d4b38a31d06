use std::net::Ipv4Addr;

use ::image::store::Source;
use api::{ProblemKind, Registration};
use net::{LeaseEvent, MacAddr};

use super::*;

const DEFAULT: &str = "docker.io/waltplatform/pc-x86-64-default:latest";
const MODEL: &str = "pc-x86-64";

fn registrar() -> Registrar {
    Registrar::new(&Loaded::default(), |model| format!("docker.io/waltplatform/{model}-default:latest"))
}

fn mac(last: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0xab, last])
}

fn lease(last: u8, class: &str) -> Input {
    let ip = Ipv4Addr::new(10, 0, 0, last);
    Input::Lease(LeaseEvent { mac: mac(last), ip, vci: String::new(), uci: class.into(), host_name: String::new() })
}

fn pc(last: u8) -> Input {
    lease(last, "walt.node.pc-x86-64")
}

/// What PCs want of this name.
fn key(name: &str) -> ImageKey {
    ImageKey { name: name.into(), wanted: Wanted::by_model(MODEL) }
}

fn content(digest: &str, models: &[&str]) -> Pulled {
    let models = models.iter().map(|model| (*model).to_owned()).collect();
    Pulled { digest: digest.into(), models, source: Source::Plain }
}

/// What a clone has asked for under this name: whatever suits the nodes that there are.
fn cloned(registrar: &Registrar, name: &str) -> ImageKey {
    let mut pulling = registrar.variants().filter(|(key, variant)| key.name == name && variant.is_pulling());
    pulling.next().unwrap().0
}

fn cloned_content(registrar: &Registrar, name: &str, digest: &str, models: &[&str]) -> Input {
    Input::Pulled { key: cloned(registrar, name), result: Ok(content(digest, models)) }
}

fn pulled(name: &str, digest: &str, models: &[&str]) -> Input {
    Input::Pulled { key: key(name), result: Ok(content(digest, models)) }
}

fn clone(name: &str) -> Input {
    Input::Clone { name: name.into(), architecture: None }
}

fn prepared(name: &str, digest: &str, id: &str, models: &[&str]) -> Input {
    let models = models.iter().map(|model| (*model).to_owned()).collect();
    let architecture = Architecture::X86_64;
    Input::Prepared {
        name: name.into(),
        digest: digest.into(),
        result: Ok(Prepared { image_id: id.into(), models, architecture }),
    }
}

fn failed(name: &str, transient: bool) -> Input {
    let failure = Failure { step: "pull", cause: "registry is down".into(), transient };
    Input::Pulled { key: key(name), result: Err(failure) }
}

fn failed_clone(registrar: &Registrar, name: &str) -> Input {
    let Input::Pulled { result, .. } = failed(name, true) else { unreachable!() };
    Input::Pulled { key: cloned(registrar, name), result }
}

/// A registrar with a node that is served image `id1`.
fn served() -> Registrar {
    let mut registrar = registrar();
    for input in [pc(1), pulled(DEFAULT, "sha256:1", &[MODEL]), prepared(DEFAULT, "sha256:1", "id1", &[MODEL])] {
        registrar.handle(input, 0).unwrap();
    }
    registrar
}

fn status(registrar: &Registrar, last: u8) -> Registration {
    registrar.registration(registrar.device(mac(last)).unwrap())
}

fn kinds(actions: &[Action]) -> Vec<&'static str> {
    actions
        .iter()
        .map(|action| match action {
            Action::Save(_) => "save",
            Action::Forget(_) => "forget",
            Action::SaveImage(_) => "save-image",
            Action::ForgetImage(_) => "forget-image",
            Action::Pull(_) => "pull",
            Action::Prepare { .. } => "prepare",
            Action::Export(_) => "export",
            Action::Link(_) => "link",
            Action::Note { step, .. } => step,
            Action::Hook(_) => "hook",
            Action::Configured(_) => "configured",
            Action::CollectGarbage => "garbage",
        })
        .collect()
}

#[test]
fn a_device_that_is_no_node_is_recorded_and_left_alone() {
    let mut registrar = registrar();
    let actions = registrar.handle(lease(1, "PXEClient:Arch:00000"), 5_000).unwrap();
    assert_eq!(kinds(&actions), ["save", "registered", "hook"]);
    let row = &registrar.device(mac(1)).unwrap().row;
    assert_eq!((row.name.as_str(), &row.model, row.first_seen), ("unknown-00ab01", &None, 5));
    assert_eq!(status(&registrar, 1), Registration::NotANode);
}

#[test]
fn a_new_node_gets_a_name_and_its_models_default_image() {
    let mut registrar = registrar();
    registrar.handle(lease(1, "iPXE"), 0).unwrap();
    let actions = registrar.handle(pc(1), 0).unwrap();
    assert_eq!(kinds(&actions), ["save", "export", "link", "registered", "hook", "pull", "image-pull"]);
    let row = &registrar.device(mac(1)).unwrap().row;
    assert_eq!((row.name.as_str(), row.model.as_deref()), ("node-00ab01", Some(MODEL)));
    assert_eq!(row.image.as_deref(), Some(DEFAULT));

    let actions = registrar.handle(pulled(DEFAULT, "sha256:1", &[MODEL]), 0).unwrap();
    assert_eq!(kinds(&actions), ["save-image", "prepare", "image-pulled"]);
    assert_eq!(status(&registrar, 1), Registration::Preparing);
    let actions = registrar.handle(prepared(DEFAULT, "sha256:1", "id1", &[MODEL]), 0).unwrap();
    assert_eq!(kinds(&actions), ["save", "export", "link", "image-ready"]);
    assert_eq!(status(&registrar, 1), Registration::Ready);

    let again = registrar.handle(pc(1), 0).unwrap();
    let expected = ["save", "export", "registered", "hook", "image-ready"];
    assert_eq!(kinds(&again), expected, "a boot of a known node changes nothing, but its timeline is whole");
    let other = registrar.handle(lease(1, "iPXE"), 0).unwrap();
    assert_eq!(kinds(&other), ["save", "export", "hook"], "its firmware tells nothing");
}

#[test]
fn many_nodes_wait_for_one_pull() {
    let mut registrar = registrar();
    let mut pulls = 0;
    for last in 1..=20 {
        let actions = registrar.handle(pc(last), 0).unwrap();
        pulls += kinds(&actions).iter().filter(|kind| **kind == "pull").count();
    }
    assert_eq!(pulls, 1);
    registrar.handle(pulled(DEFAULT, "sha256:1", &[MODEL]), 0).unwrap();
    let actions = registrar.handle(prepared(DEFAULT, "sha256:1", "id1", &[MODEL]), 0).unwrap();
    assert_eq!(kinds(&actions).iter().filter(|kind| **kind == "export").count(), 20);
}

#[test]
fn a_pull_is_told_by_quarters_and_its_news_decide_nothing() {
    let mut registrar = registrar();
    registrar.handle(pc(1), 0).unwrap();
    registrar.handle(clone("lab/other:latest"), 0).unwrap();
    let input = failed_clone(&registrar, "lab/other:latest");
    registrar.handle(input, 0).unwrap();
    let mut told = Vec::new();
    for done in [0, 10, 26, 30, 51, 80, 99, 100] {
        // Long after the failed one is to be forgotten: that is decided elsewhere.
        let actions = registrar.handle(Input::Progress { key: key(DEFAULT), done, total: 100 }, 99_999).unwrap();
        told.extend(actions.into_iter().map(|action| match action {
            Action::Note { detail, .. } => detail,
            other => panic!("{other:?}"),
        }));
    }
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(status(&registrar, 1), Registration::Pulling { done: 100, total: 100, trouble: None });
    let news = Input::Retrying { key: key(DEFAULT), cause: "503".into() };
    assert_eq!(kinds(&registrar.handle(news, 99_999).unwrap()), ["image-pull"]);
    assert!(registrar.image("lab/other:latest").is_some());
    assert_eq!(registrar.handle(Input::Tick, 99_999).unwrap(), []);
    assert!(registrar.image("lab/other:latest").is_none(), "no node wants it");
}

#[test]
fn names_stay_unique_when_macs_end_alike() {
    let mut registrar = registrar();
    let other = MacAddr([0x02, 0x99, 0x99, 0x00, 0xab, 1]);
    registrar.handle(pc(1), 0).unwrap();
    let event = LeaseEvent {
        mac: other,
        ip: [10, 0, 0, 99].into(),
        vci: "walt.node.pc-x86-64".into(),
        uci: String::new(),
        host_name: String::new(),
    };
    registrar.handle(Input::Lease(event), 0).unwrap();
    assert_eq!(registrar.device(other).unwrap().row.name, "node-02999900ab01");
}

#[test]
fn a_registry_that_is_down_is_asked_again_later_and_later() {
    let mut registrar = registrar();
    registrar.handle(pc(1), 0).unwrap();
    let mut now = 0;
    for pause in [5_000, 10_000, 20_000, 40_000, 60_000, 60_000] {
        registrar.handle(failed(DEFAULT, true), now).unwrap();
        assert_eq!(registrar.next_retry_ms(), Some(now + pause));
        let Registration::Failed { cause, retry_at, .. } = status(&registrar, 1) else { panic!("not failed") };
        assert_eq!((cause.as_str(), retry_at), ("registry is down", Some((now + pause) / 1000)));
        let asked = kinds(&registrar.handle(pc(1), now + 1).unwrap());
        assert_eq!(asked, ["save", "export", "registered", "hook"], "a node that asks does not hurry it");
        now += pause;
        assert_eq!(kinds(&registrar.handle(Input::Tick, now).unwrap()), ["pull", "image-pull"]);
    }
    registrar.handle(pulled(DEFAULT, "sha256:1", &[MODEL]), now).unwrap();
    assert_eq!(registrar.next_retry_ms(), None);
}

#[test]
fn a_clock_that_was_set_back_does_not_stop_retries() {
    let mut registrar = registrar();
    registrar.handle(pc(1), 10_000_000).unwrap();
    registrar.handle(failed(DEFAULT, true), 10_000_000).unwrap();
    assert_eq!(kinds(&registrar.handle(Input::Tick, 0).unwrap()), ["pull", "image-pull"]);
}

#[test]
fn what_only_a_change_can_repair_waits_until_a_node_asks() {
    let mut registrar = registrar();
    registrar.handle(pc(1), 0).unwrap();
    registrar.handle(failed(DEFAULT, false), 0).unwrap();
    assert_eq!(registrar.next_retry_ms(), None);
    assert!(!kinds(&registrar.handle(pc(1), 30_000).unwrap()).contains(&"pull"));
    assert!(kinds(&registrar.handle(pc(1), 61_000).unwrap()).contains(&"pull"));
}

#[test]
fn a_failure_leaves_what_was_served() {
    let mut registrar = served();
    registrar.handle(clone("lab/new:latest"), 0).unwrap();
    let input = cloned_content(&registrar, "lab/new:latest", "sha256:2", &["rpi-3-b"]);
    registrar.handle(input, 0).unwrap();
    registrar.handle(prepared("lab/new:latest", "sha256:2", "id2", &["rpi-3-b"]), 0).unwrap();
    let error = registrar.handle(Input::Boot { node: "node-00ab01".into(), image: "new".into() }, 0).unwrap_err();
    assert_eq!(error.kind, ProblemKind::UnsuitableImage);
    assert!(error.message.contains("rpi-3-b") && error.message.contains("pc-x86-64"), "{error}");

    // A refreshed image that lost the model, and one that can not be prepared.
    registrar.handle(clone(DEFAULT), 0).unwrap();
    registrar.handle(pulled(DEFAULT, "sha256:3", &["rpi-3-b"]), 0).unwrap();
    registrar.handle(prepared(DEFAULT, "sha256:3", "id3", &["rpi-3-b"]), 0).unwrap();
    let row = &registrar.device(mac(1)).unwrap().row;
    assert_eq!(row.served.as_deref(), Some("id1"));
    let Registration::Failed { step, cause, .. } = status(&registrar, 1) else { panic!("not failed") };
    assert!(step == "check" && cause.contains("not made for a pc-x86-64"), "{cause}");
    let (_, ids) = registrar.in_use();
    assert!(ids.contains("id1"), "what is served is kept");
}

#[test]
fn a_new_image_is_switched_to_when_it_is_ready_and_the_old_one_is_held() {
    let mut registrar = served();
    let client = Ipv4Addr::new(10, 0, 0, 1);
    let actions = registrar.handle(Input::Mounted { client, image: "id1".into() }, 0).unwrap();
    assert_eq!(kinds(&actions), ["save", "export"]);
    assert!(registrar.handle(Input::Mounted { client, image: "id1".into() }, 0).unwrap().is_empty());

    let name = "lab:5000/new:latest";
    registrar.handle(clone(name), 0).unwrap();
    let input = cloned_content(&registrar, name, "sha256:2", &[MODEL]);
    registrar.handle(input, 0).unwrap();
    registrar.handle(prepared(name, "sha256:2", "id2", &[MODEL]), 0).unwrap();
    let actions = registrar.handle(Input::Boot { node: "10.0.0.1".into(), image: "new".into() }, 0).unwrap();
    assert_eq!(kinds(&actions), ["save", "save-image", "save", "export", "link", "image-ready", "garbage"]);
    let row = &registrar.device(mac(1)).unwrap().row;
    assert_eq!((row.served.as_deref(), &row.held[..]), (Some("id2"), &["id1".to_owned()][..]));
    registrar.handle(Input::Collected { done: true }, 0).unwrap();
    assert!(registrar.in_use().1.contains("id1"), "held until the bootloader runs again");

    // Firmware and iPXE say nothing about the node's OS being gone; its bootloader does.
    registrar.handle(lease(1, "iPXE"), 0).unwrap();
    assert_eq!(registrar.device(mac(1)).unwrap().row.held.len(), 1);
    let actions = registrar.handle(pc(1), 0).unwrap();
    assert!(kinds(&actions).contains(&"garbage"));
    assert!(registrar.device(mac(1)).unwrap().row.held.is_empty());
}

#[test]
fn a_system_belongs_to_who_owned_its_image_when_it_was_served() {
    let mut registrar = served();
    let client = Ipv4Addr::new(10, 0, 0, 1);
    let owner = |registrar: &Registrar| registrar.owner_of_system(&registrar.device(mac(1)).unwrap().row);
    let mounted = |image: &str| Input::Mounted { client, image: image.into() };
    let boot = |image: &str| Input::Boot { node: "10.0.0.1".into(), image: image.into() };
    let user = |name: &str| Some(Owner::User(name.into()));
    registrar.handle(mounted("id1"), 0).unwrap();
    assert_eq!(owner(&registrar), Some(Owner::Nobody));

    let of_bob = "docker.io/bob/new:latest";
    registrar.handle(clone(of_bob), 0).unwrap();
    let input = cloned_content(&registrar, of_bob, "sha256:2", &[MODEL]);
    registrar.handle(input, 0).unwrap();
    registrar.handle(boot("bob/new"), 0).unwrap();
    registrar.handle(pc(1), 0).unwrap();
    assert_eq!(registrar.owner(registrar.device(mac(1)).unwrap()), user("bob"));
    assert_eq!(owner(&registrar), Some(Owner::Nobody), "his is not served yet");
    registrar.handle(prepared(of_bob, "sha256:2", "id2", &[MODEL]), 0).unwrap();
    assert_eq!(owner(&registrar), user("bob"));
    registrar.handle(mounted("id2"), 0).unwrap();

    // The same content by the name of another user.
    let of_ada = "docker.io/ada/same:latest";
    registrar.handle(clone(of_ada), 0).unwrap();
    let input = cloned_content(&registrar, of_ada, "sha256:2", &[MODEL]);
    registrar.handle(input, 0).unwrap();
    registrar.handle(prepared(of_ada, "sha256:2", "id2", &[MODEL]), 0).unwrap();
    registrar.handle(boot("ada/same"), 0).unwrap();
    assert_eq!(owner(&registrar), user("bob"), "his runs");
    registrar.handle(pc(1), 0).unwrap();
    assert_eq!(owner(&registrar), user("ada"));

    // Two without a bootloader of ours in between: the one that was mounted last runs.
    registrar.handle(mounted("id2"), 0).unwrap();
    registrar.handle(boot("default"), 0).unwrap();
    registrar.handle(mounted("id1"), 0).unwrap();
    assert_eq!(owner(&registrar), Some(Owner::Nobody));
    assert_eq!(registrar.device(mac(1)).unwrap().row.held, ["id2", "id1"]);
}

#[test]
fn garbage_is_collected_only_while_nothing_arrives() {
    let mut registrar = served();
    let name = "lab:5000/a:latest";
    registrar.handle(clone(name), 0).unwrap();
    let input = cloned_content(&registrar, name, "sha256:2", &[MODEL]);
    registrar.handle(input, 0).unwrap();
    registrar.handle(prepared(name, "sha256:2", "id2", &[MODEL]), 0).unwrap();
    registrar.handle(clone("lab:5000/b:latest"), 0).unwrap();
    let actions = registrar.handle(Input::Remove { name: name.into() }, 0).unwrap();
    assert_eq!(kinds(&actions), ["forget-image"]);
    let input = failed_clone(&registrar, "lab:5000/b:latest");
    let actions = registrar.handle(input, 0).unwrap();
    assert_eq!(kinds(&actions), ["garbage"]);
    assert!(registrar.handle(Input::Collected { done: false }, 0).unwrap().is_empty());
    assert_eq!(kinds(&registrar.handle(Input::Tick, 0).unwrap()), ["garbage"], "it was put off");
    registrar.handle(Input::Collected { done: true }, 0).unwrap();
    assert!(registrar.handle(Input::Tick, 0).unwrap().is_empty());
}

#[test]
fn an_image_in_use_is_not_removed_and_its_users_are_named() {
    let mut registrar = served();
    let error = registrar.handle(Input::Remove { name: "pc-x86-64-default".into() }, 0).unwrap_err();
    assert_eq!(error.kind, ProblemKind::InUse);
    assert!(error.message.contains("node-00ab01"), "{error}");
}

#[test]
fn unknown_names_come_with_the_nearest_one() {
    let mut registrar = served();
    for (node, image, kind, hint) in [
        ("node-00ab10", "default", ProblemKind::UnknownNode, "node-00ab01"),
        ("node-00ab01", "pc-x86-64-defualt", ProblemKind::UnknownImage, "pc-x86-64-default"),
        ("node-00ab01", "zzz", ProblemKind::UnknownImage, "walt image clone zzz"),
    ] {
        let error = registrar.handle(Input::Boot { node: node.into(), image: image.into() }, 0).unwrap_err();
        assert_eq!(error.kind, kind);
        assert!(error.hint.as_ref().unwrap().contains(hint), "{error:?}");
    }
}

#[test]
fn a_restart_prepares_what_is_there_and_pulls_what_is_not() {
    let before = served();
    let devices = before.devices().map(|device| device.row.clone()).collect();
    let images = vec![ImageRow { key: key(DEFAULT), digest: "sha256:1".into(), created: 0, source: Source::Plain }];
    let loaded = Loaded { devices, images, ..Loaded::default() };
    let mut after = Registrar::new(&loaded, |model| format!("docker.io/waltplatform/{model}-default:latest"));
    assert_eq!(kinds(&after.handle(Input::Start, 0).unwrap()), ["prepare", "configured"]);
    assert_eq!(after.device(mac(1)).unwrap().row.served.as_deref(), Some("id1"), "served on meanwhile");
    let actions = after.handle(prepared(DEFAULT, "sha256:1", "id1", &[MODEL]), 0).unwrap();
    assert_eq!(kinds(&actions), ["export"], "its view may not have been open until now");
    assert_eq!(status(&after, 1), Registration::Ready);

    let loaded = Loaded { devices: loaded.devices, ..Loaded::default() };
    let mut without = Registrar::new(&loaded, |_| DEFAULT.into());
    assert_eq!(kinds(&without.handle(Input::Start, 0).unwrap()), ["pull", "image-pull", "configured"]);
}

#[test]
fn an_answer_about_content_that_was_replaced_meanwhile_is_ignored() {
    let mut registrar = registrar();
    registrar.handle(pc(1), 0).unwrap();
    registrar.handle(pulled(DEFAULT, "sha256:1", &[MODEL]), 0).unwrap();
    let images = vec![content("sha256:2", &[MODEL])];
    registrar.handle(Input::Imported { name: DEFAULT.into(), images }, 0).unwrap();
    assert!(registrar.handle(prepared(DEFAULT, "sha256:1", "id1", &[MODEL]), 0).unwrap().is_empty());
    registrar.handle(prepared(DEFAULT, "sha256:2", "id2", &[MODEL]), 0).unwrap();
    assert_eq!(registrar.device(mac(1)).unwrap().row.served.as_deref(), Some("id2"));
}

#[test]
fn a_device_is_renamed_to_what_is_a_name_and_free() {
    let mut registrar = registrar();
    registrar.handle(pc(1), 0).unwrap();
    registrar.handle(pc(2), 0).unwrap();
    let rename = |device: &str, name: &str| Input::Rename { device: device.into(), name: name.into() };
    let actions = registrar.handle(rename("node-00ab01", "kitchen"), 0).unwrap();
    assert_eq!(kinds(&actions), ["save", "configured", "link"]);
    assert_eq!(registrar.find_node("kitchen"), Ok(mac(1)));
    assert_eq!(registrar.handle(rename("kitchen", "kitchen"), 0).map(drop), Ok(()));
    for (device, name, kind) in [
        ("node-00ab02", "kitchen", ProblemKind::InUse),
        ("node-00ab02", "my-nodes", ProblemKind::BadRequest),
        ("node-00ab02", "a/../b", ProblemKind::BadRequest),
        ("nobody", "bath", ProblemKind::UnknownNode),
    ] {
        assert_eq!(registrar.handle(rename(device, name), 0).unwrap_err().kind, kind, "{name}");
    }
    // A lease does not give it its old name again.
    registrar.handle(pc(1), 1).unwrap();
    assert_eq!(registrar.device(mac(1)).unwrap().row.name, "kitchen");
}

#[test]
fn a_forgotten_device_is_new_when_it_comes_again() {
    let mut registrar = registrar();
    registrar.handle(pc(1), 0).unwrap();
    registrar.handle(Input::Rename { device: "node-00ab01".into(), name: "kitchen".into() }, 0).unwrap();
    let actions = registrar.handle(Input::Forget { device: "kitchen".into() }, 0).unwrap();
    assert_eq!(actions.first(), Some(&Action::Forget(mac(1))));
    assert!(registrar.device(mac(1)).is_none());
    let actions = registrar.handle(pc(1), 5_000).unwrap();
    assert!(kinds(&actions).contains(&"registered"), "{actions:?}");
    assert_eq!(registrar.device(mac(1)).unwrap().row.name, "node-00ab01");
}

#[test]
fn sets_of_nodes() {
    let mut registrar = registrar();
    for last in 1..=3 {
        registrar.handle(pc(last), 0).unwrap();
    }
    registrar.handle(lease(4, ""), 0).unwrap();
    registrar.devices.get_mut(&mac(1)).unwrap().row.image = Some("docker.io/ada/mine:latest".into());
    registrar.devices.get_mut(&mac(2)).unwrap().row.image = Some("localhost:5000/lab/x:1".into());
    let set = |text: &str, user: &str| -> Vec<u8> {
        registrar.find_set(text, user).map(|macs| macs.iter().map(|mac| mac.0[5]).collect()).unwrap_or_default()
    };
    for (text, user, expected) in [
        ("my-nodes", "ada", &[1][..]),
        ("my-nodes", "bob", &[]),
        ("free-nodes", "bob", &[3]),
        ("all-nodes", "bob", &[1, 2, 3]),
        ("all-devices", "bob", &[1, 2, 3, 4]),
        ("node-00ab03, node-00ab01,node-00ab03", "bob", &[1, 3]),
        ("my-nodes,10.0.0.2", "ada", &[1, 2]),
        ("node-00ab03,nobody", "ada", &[]),
        ("", "ada", &[]),
    ] {
        assert_eq!(set(text, user), expected, "{text} of {user}");
    }
    let problem = registrar.find_set("my-nodes", "bob").unwrap_err();
    assert!(problem.message.contains("no node boots an image of yours (bob)"), "{problem:?}");
}

#[test]
fn nat_that_does_not_work_is_the_problem_of_those_behind_it() {
    let mut registrar = served();
    registrar.handle(pc(2), 0).unwrap();
    let configure = |registrar: &mut Registrar, value: &str| {
        let changes = BTreeMap::from([("netsetup".to_owned(), value.to_owned())]);
        registrar.handle(Input::Configure { device: mac(1).to_string(), changes }, 0).unwrap()
    };
    assert_eq!(kinds(&configure(&mut registrar, "NAT")), ["save", "configured"]);
    let failed = || Input::NatSet { result: Err("no nft".into()) };
    let works = || Input::NatSet { result: Ok(()) };
    assert_eq!(kinds(&registrar.handle(failed(), 0).unwrap()), ["nat"]);
    assert!(
        matches!(status(&registrar, 1), Registration::Failed { step, cause, .. } if step == "nat" && cause == "no nft")
    );
    assert_eq!(registrar.device(mac(2)).unwrap().problem, None);
    assert!(registrar.handle(failed(), 0).unwrap().is_empty(), "it is told once");
    assert_eq!(kinds(&registrar.handle(works(), 0).unwrap()), ["nat"]);
    assert_eq!(status(&registrar, 1), Registration::Ready);
    assert!(registrar.handle(works(), 0).unwrap().is_empty());

    registrar.handle(failed(), 0).unwrap();
    configure(&mut registrar, "LAN");
    assert_eq!(status(&registrar, 1), Registration::Ready, "it is not wanted any more");
    configure(&mut registrar, "NAT");
    registrar.handle(Input::Linked { mac: mac(1), result: Err("disk full".into()) }, 0).unwrap();
    assert!(registrar.handle(failed(), 0).unwrap().is_empty());
    registrar.handle(works(), 0).unwrap();
    assert!(matches!(status(&registrar, 1), Registration::Failed { step, .. } if step == "links"), "that is worse");
}

fn create(last: u8, name: &str) -> Input {
    Input::Create { mac: mac(last), name: name.into(), config: BTreeMap::new() }
}

#[test]
fn late_news_of_a_virtual_node_that_was_removed_makes_no_device() {
    let mut registrar = registrar();
    registrar.handle(create(1, "vm1"), 0).unwrap();
    registrar.handle(Input::Forget { device: "vm1".into() }, 1000).unwrap();
    for late in [pc(1), lease(1, "")] {
        assert_eq!(registrar.handle(late, 2000), Ok(vec![]));
    }
    assert_eq!(registrar.devices().count(), 0);
    // Much later it is somebody else's; and what is no machine of ours is a new device at once.
    registrar.handle(pc(1), 3_600_000).unwrap();
    registrar.handle(Input::Forget { device: mac(1).to_string() }, 3_600_001).unwrap();
    registrar.handle(pc(1), 3_600_002).unwrap();
    assert_eq!(registrar.devices().count(), 1);
}

#[test]
fn a_virtual_node_has_an_address_that_nobody_has_and_no_machine_had_just_now() {
    let mut registrar = registrar();
    registrar.handle(pc(1), 0).unwrap();
    registrar.handle(create(2, "vm2"), 0).unwrap();
    registrar.handle(Input::Forget { device: "vm2".into() }, 0).unwrap();
    registrar.handle(create(1, "vm1"), 0).unwrap();
    let made = registrar.find_node("vm1").unwrap();
    assert_eq!(made, mac(3));
    assert!(registrar.device(made).unwrap().row.is_virtual && !registrar.device(mac(1)).unwrap().row.is_virtual);
    let last = MacAddr([0x52, 0x54, 0, 0xff, 0xff, 0xff]);
    for name in ["last", "first"] {
        registrar.handle(Input::Create { mac: last, name: name.into(), config: BTreeMap::new() }, 0).unwrap();
    }
    assert_eq!(registrar.find_node("first"), Ok(MacAddr([0x52, 0x54, 0, 0, 0, 0])));
}
