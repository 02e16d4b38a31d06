//! One name, several architectures.

use ::image::Platform;
use ::image::store::Source;
use api::{ProblemKind, Registration};
use net::{LeaseEvent, MacAddr};

use super::*;

const NAME: &str = "lab:5000/any:latest";
const PC: &str = "pc-x86-64";
const BOARD: &str = "qemu-arm-64";

fn registrar(loaded: &Loaded) -> Registrar {
    Registrar::new(loaded, |_| NAME.into())
}

fn mac(last: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0xab, last])
}

fn lease(last: u8, model: &str) -> Input {
    let ip = Ipv4Addr::new(10, 0, 0, last);
    let vci = format!("walt.node.{model}");
    Input::Lease(LeaseEvent { mac: mac(last), ip, vci, uci: String::new(), host_name: String::new() })
}

fn key(model: &str) -> ImageKey {
    ImageKey { name: NAME.into(), wanted: Wanted::by_model(model) }
}

fn models(models: &[&str]) -> Vec<String> {
    models.iter().map(|model| (*model).to_owned()).collect()
}

/// What an index of these platforms gave a machine of this model.
fn of_index(model: &str, digest: &str, offered: &[Platform], made_for: &[&str]) -> Input {
    let chosen = Wanted::by_model(model).best_of(offered).cloned();
    let source = Source::Index { offered: offered.to_vec(), chosen };
    let pulled = Pulled { digest: digest.into(), models: models(made_for), source };
    Input::Pulled { key: key(model), result: Ok(pulled) }
}

fn plain(model: &str, digest: &str, made_for: &[&str]) -> Input {
    let pulled = Pulled { digest: digest.into(), models: models(made_for), source: Source::Plain };
    Input::Pulled { key: key(model), result: Ok(pulled) }
}

fn prepared(digest: &str, id: &str, made_for: &[&str], architecture: Architecture) -> Input {
    let result = Ok(Prepared { image_id: id.into(), models: models(made_for), architecture });
    Input::Prepared { name: NAME.into(), digest: digest.into(), result }
}

fn two() -> [Platform; 2] {
    [Platform::amd64(), Platform::linux("arm64", None)]
}

fn pulls(actions: &[Action]) -> Vec<ImageKey> {
    let pull = |action: &Action| if let Action::Pull(key) = action { Some(key.clone()) } else { None };
    actions.iter().filter_map(pull).collect()
}

fn prepares(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Prepare { .. })).count()
}

fn served(registrar: &Registrar, last: u8) -> Option<String> {
    registrar.device(mac(last)).unwrap().row.served.clone()
}

/// A PC (1) and a board (2) that boot the two variants of one index.
fn both() -> Registrar {
    let mut registrar = registrar(&Loaded::default());
    assert_eq!(pulls(&registrar.handle(lease(1, PC), 0).unwrap()), [key(PC)]);
    assert_eq!(pulls(&registrar.handle(lease(2, BOARD), 0).unwrap()), [key(BOARD)]);
    for input in [
        of_index(PC, "sha256:pc", &two(), &[PC]),
        of_index(BOARD, "sha256:board", &two(), &[BOARD]),
        prepared("sha256:board", "id-board", &[BOARD], Architecture::Aarch64),
        prepared("sha256:pc", "id-pc", &[PC], Architecture::X86_64),
    ] {
        registrar.handle(input, 0).unwrap();
    }
    registrar
}

#[test]
fn each_gets_its_own_variant_of_an_index() {
    let registrar = both();
    assert_eq!((served(&registrar, 1).as_deref(), served(&registrar, 2).as_deref()), (Some("id-pc"), Some("id-board")));
    let (digests, ids) = registrar.in_use();
    assert_eq!((digests.len(), ids.len()), (2, 2), "garbage collection leaves both");
}

#[test]
fn both_variants_are_there_after_a_restart() {
    let before = both();
    let rows = before.variants().filter_map(|(key, variant)| Some(variant.content.as_ref()?.row(&key)));
    let loaded = Loaded {
        images: rows.collect(),
        devices: before.devices().map(|device| device.row.clone()).collect(),
        ..Loaded::default()
    };
    let mut after = registrar(&loaded);
    let actions = after.handle(Input::Start, 0).unwrap();
    assert_eq!((pulls(&actions).len(), prepares(&actions)), (0, 2));
    after.handle(prepared("sha256:pc", "id-pc", &[PC], Architecture::X86_64), 0).unwrap();
    after.handle(prepared("sha256:board", "id-board", &[BOARD], Architecture::Aarch64), 0).unwrap();
    for last in [1, 2] {
        assert_eq!(after.registration(after.device(mac(last)).unwrap()), Registration::Ready);
    }
}

#[test]
fn a_clone_gets_both_anew_and_a_removal_forgets_both() {
    let mut registrar = both();
    let actions = registrar.handle(Input::Clone { name: NAME.into(), architecture: None }, 0).unwrap();
    let mut cloned = pulls(&actions);
    cloned.sort();
    let mut expected = [key(PC), key(BOARD)];
    expected.sort();
    assert_eq!(cloned, expected);
    registrar.handle(of_index(BOARD, "sha256:board2", &two(), &[BOARD]), 0).unwrap();
    registrar.handle(prepared("sha256:board2", "id-board2", &[BOARD], Architecture::Aarch64), 0).unwrap();
    assert_eq!(
        (served(&registrar, 1).as_deref(), served(&registrar, 2).as_deref()),
        (Some("id-pc"), Some("id-board2"))
    );
    registrar.handle(of_index(PC, "sha256:pc", &two(), &[PC]), 0).unwrap();
    registrar.handle(prepared("sha256:pc", "id-pc", &[PC], Architecture::X86_64), 0).unwrap();

    let refused = registrar.handle(Input::Remove { name: NAME.into() }, 0).unwrap_err();
    assert!(refused.kind == ProblemKind::InUse && refused.message.contains("node-00ab02"), "{refused}");
    let other = ImageKey { name: "lab:5000/other:latest".into(), ..key(PC) };
    registrar.handle(Input::Clone { name: other.name.clone(), architecture: None }, 0).unwrap();
    let pulled = Pulled { digest: "sha256:o".into(), models: models(&[PC, BOARD]), source: Source::Plain };
    let wanted = registrar.image(&other.name).unwrap().variants.keys().next().unwrap().clone();
    let of = ImageKey { wanted, ..other.clone() };
    registrar.handle(Input::Pulled { key: of, result: Ok(pulled) }, 0).unwrap();
    for node in ["node-00ab01", "node-00ab02"] {
        registrar.handle(Input::Boot { node: node.into(), image: other.name.clone() }, 0).unwrap();
    }
    let actions = registrar.handle(Input::Remove { name: NAME.into() }, 0).unwrap();
    let forgotten = actions.iter().filter(|action| matches!(action, Action::ForgetImage(_))).count();
    assert_eq!(forgotten, 2);
}

#[test]
fn a_plain_image_is_pulled_and_prepared_once_for_all() {
    let mut registrar = registrar(&Loaded::default());
    registrar.handle(lease(1, "rpi-2-b"), 0).unwrap();
    registrar.handle(plain("rpi-2-b", "sha256:1", &["rpi-2-b", "rpi-3-b"]), 0).unwrap();
    let second = registrar.handle(lease(2, "rpi-3-b"), 0).unwrap();
    assert_eq!((pulls(&second).len(), prepares(&second)), (0, 0), "it is on its way to be prepared");
    registrar.handle(prepared("sha256:1", "id1", &["rpi-2-b", "rpi-3-b"], Architecture::Armv7), 0).unwrap();
    assert_eq!((served(&registrar, 1).as_deref(), served(&registrar, 2).as_deref()), (Some("id1"), Some("id1")));
}

#[test]
fn what_a_node_cannot_run_is_refused_with_both_named() {
    let mut registrar = registrar(&Loaded::default());
    registrar.handle(lease(1, BOARD), 0).unwrap();
    // Its label says the board, its programs say a PC.
    registrar.handle(plain(BOARD, "sha256:1", &[BOARD]), 0).unwrap();
    registrar.handle(prepared("sha256:1", "id1", &[BOARD], Architecture::X86_64), 0).unwrap();
    assert_eq!(served(&registrar, 1), None);
    let status = registrar.registration(registrar.device(mac(1)).unwrap());
    let Registration::Failed { step, cause, .. } = status else { panic!("{status:?}") };
    assert_eq!(step, "check");
    assert!(cause.contains("built for x86_64") && cause.contains("qemu-arm-64 runs aarch64"), "{cause}");
}

#[test]
fn an_index_without_a_variant_for_a_node_is_refused_by_what_it_offers() {
    let mut registrar = both();
    registrar.handle(lease(3, "rpi-b"), 0).unwrap();
    let boot = Input::Boot { node: "node-00ab03".into(), image: NAME.into() };
    let error = registrar.handle(boot, 0).unwrap_err();
    assert_eq!(error.kind, ProblemKind::UnsuitableImage);
    assert!(error.message.contains("rpi-b") && error.message.contains("linux/arm64"), "{error}");
}

#[test]
fn an_archive_replaces_all_variants() {
    let mut registrar = both();
    let of = |digest: &str, platform: &Platform, model: &str| Pulled {
        digest: digest.into(),
        models: models(&[model]),
        source: Source::Index { offered: two().to_vec(), chosen: Some(platform.clone()) },
    };
    let [pc, board] = two();
    let images = vec![of("sha256:pc3", &pc, PC), of("sha256:board3", &board, BOARD)];
    let actions = registrar.handle(Input::Imported { name: NAME.into(), images }, 0).unwrap();
    assert_eq!((pulls(&actions).len(), prepares(&actions)), (0, 2));
    registrar.handle(prepared("sha256:pc3", "id-pc3", &[PC], Architecture::X86_64), 0).unwrap();
    registrar.handle(prepared("sha256:board3", "id-board3", &[BOARD], Architecture::Aarch64), 0).unwrap();
    assert_eq!(
        (served(&registrar, 1).as_deref(), served(&registrar, 2).as_deref()),
        (Some("id-pc3"), Some("id-board3"))
    );
}

#[test]
fn a_board_that_no_model_is_known_for_is_shown_and_given_nothing() {
    let mut registrar = registrar(&Loaded::default());
    let actions = registrar.handle(lease(1, "unknown-bcm2711-rpi-cm4"), 0).unwrap();
    let told = actions
        .iter()
        .any(|action| matches!(action, Action::Note { detail, ok: false, .. } if detail.contains("bcm2711-rpi-cm4")));
    assert!(told && pulls(&actions).is_empty(), "{actions:?}");
    assert!(!actions.iter().any(|action| matches!(action, Action::Export(_) | Action::Link(_))), "{actions:?}");
    let row = registrar.device(mac(1)).unwrap().row.clone();
    assert_eq!((row.model, row.board.as_deref(), row.image), (None, Some("bcm2711-rpi-cm4"), None));

    // A first stage of a later day knows it.
    registrar.handle(lease(1, "rpi-4-b"), 0).unwrap();
    let row = &registrar.device(mac(1)).unwrap().row;
    assert_eq!((row.model.as_deref(), &row.board), (Some("rpi-4-b"), &None));
    // And one that is unknown again is what it was before: its card was changed, not the board.
    registrar.handle(lease(1, "unknown-x"), 0).unwrap();
    assert_eq!(registrar.device(mac(1)).unwrap().row.model.as_deref(), Some("rpi-4-b"));
}

fn pull_failed(key: ImageKey) -> Input {
    let failure = Failure { step: "pull", cause: "the registry does not have it".into(), transient: true };
    Input::Pulled { key, result: Err(failure) }
}

#[test]
fn models_that_a_client_invents_are_not_asked_for_for_ever() {
    let mut registrar = Registrar::new(&Loaded::default(), |model| format!("lab:5000/{model}:latest"));
    let key = |n: u32| ImageKey { name: format!("lab:5000/a{n}:latest"), wanted: Wanted::anything() };
    for n in 0..50 {
        assert_eq!(pulls(&registrar.handle(lease(1, &format!("a{n}")), 0).unwrap()), [key(n)]);
        registrar.handle(pull_failed(key(n)), 0).unwrap();
    }
    // The last one is what the device boots. Of the others nothing is pulled, nor kept.
    let actions = registrar.handle(Input::Tick, 5_000).unwrap();
    assert_eq!(pulls(&actions), [key(49)]);
    registrar.handle(pull_failed(key(49)), 5_000).unwrap();
    for now_ms in (10_000..=120_000).step_by(1_000) {
        for again in pulls(&registrar.handle(Input::Tick, now_ms).unwrap()) {
            registrar.handle(pull_failed(again), now_ms).unwrap();
        }
    }
    assert_eq!(registrar.images().map(|(name, _)| name).collect::<Vec<_>>(), [key(49).name]);
}

#[test]
fn a_failed_refresh_is_tried_again() {
    let mut registrar = both();
    let actions = registrar.handle(Input::Clone { name: NAME.into(), architecture: None }, 0).unwrap();
    assert_eq!(pulls(&actions).len(), 2);
    registrar.handle(pull_failed(key(PC)), 0).unwrap();
    assert_eq!(served(&registrar, 1).as_deref(), Some("id-pc"), "what was there is served");
    let at = registrar.next_retry_ms().unwrap();
    assert_eq!(pulls(&registrar.handle(Input::Tick, at).unwrap()), [key(PC)]);
    registrar.handle(of_index(PC, "sha256:pc2", &two(), &[PC]), at).unwrap();
    registrar.handle(prepared("sha256:pc2", "id-pc2", &[PC], Architecture::X86_64), at).unwrap();
    assert_eq!(served(&registrar, 1).as_deref(), Some("id-pc2"));
}

#[test]
fn one_variant_alone_is_got_anew() {
    let mut registrar = both();
    let clone = |architecture| Input::Clone { name: NAME.into(), architecture: Some(architecture) };
    let actions = registrar.handle(clone(Architecture::Aarch64), 0).unwrap();
    assert_eq!(pulls(&actions), [key(BOARD)], "the PC's stays as it is");
    let actions = registrar.handle(clone(Architecture::Armv7), 0).unwrap();
    assert_eq!(pulls(&actions), [ImageKey { name: NAME.into(), wanted: Wanted::exactly(Architecture::Armv7) }]);
    let entry = registrar.image(NAME).unwrap();
    let of = |architecture| entry.variants_for(architecture).count();
    assert_eq!([Architecture::X86_64, Architecture::Aarch64, Architecture::Armv7].map(of), [1, 1, 1]);
}
