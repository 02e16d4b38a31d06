//! Where a boot hangs, and the likely reason.

use api::{Registration, Stuck};

use super::Stage;
use crate::registry::StepRow;

/// Silence after which a stage is called stuck, in milliseconds; what it waits for; what is the matter.
///
/// The figures are several times what each stage takes on an emulated PC (the slowest machine we
/// boot): 12.7 s of iPXE's wait for a router, 8 s for an initramfs, 20 s for systemd.
const STAGES: [(Stage, u64, &str, &str); 7] = [
    (Stage::Firmware, 30_000, "the firmware's request for a boot file", "is network boot the first in its boot order?"),
    (Stage::Ipxe, 45_000, "the first-stage script and a DHCP request as walt.node.<model>", "iPXE's console tells why"),
    (Stage::Bootloader, 30_000, "the request for the second-stage script", "the bootloader's console tells why"),
    (
        Stage::Loading,
        90_000,
        "the NFS mount of its image",
        "the kernel may lack a driver for the network card, or its arguments may name another path: see its console",
    ),
    (Stage::Mounted, 60_000, "the first step of the agent", "is init=/bin/walt-init among the kernel's arguments?"),
    (Stage::Agent, 120_000, "ssh", "is an ssh server enabled in the image?"),
    (Stage::Up, 0, "the node's connection", "the node is off, hangs, or was cut off the network"),
];

pub(super) fn stuck(
    stage: Stage,
    last: Option<&StepRow>,
    silent_ms: u64,
    registration: &Registration,
) -> Option<Stuck> {
    let image = image_problem(registration).filter(|_| stage <= Stage::Bootloader);
    if let Some((waiting_for, hint)) = image {
        return Some(Stuck { waiting_for, silent_ms, hint });
    }
    if let Some(step) = last.filter(|step| !step.ok && step.name.starts_with("agent:")) {
        let waiting_for = format!("{}, which failed: {}", step.name, step.detail);
        return Some(Stuck {
            waiting_for,
            silent_ms,
            hint: "the agent reboots the node after a step that failed".into(),
        });
    }
    if let Some(step) = last.filter(|step| !step.ok && step.name == "firmware-file") {
        let waiting_for = "the firmware of its board".to_owned();
        return Some(Stuck { waiting_for, silent_ms, hint: step.detail.clone() });
    }
    let (_, limit, waiting_for, hint) = STAGES.iter().find(|(of, ..)| *of == stage)?;
    (silent_ms > *limit).then(|| Stuck { waiting_for: (*waiting_for).to_owned(), silent_ms, hint: (*hint).to_owned() })
}

/// Until the image is there, no boot gets past the bootloader: that is the reason, at once.
fn image_problem(registration: &Registration) -> Option<(String, String)> {
    let reboots = "the bootloader reboots and comes again until the image is ready";
    match registration {
        Registration::NotANode | Registration::Ready => None,
        Registration::Pulling { trouble: Some(trouble), .. } => {
            Some(("its image, which its registry does not deliver".into(), trouble.clone()))
        }
        Registration::Pulling { done, total: 0, .. } => {
            Some((format!("its image ({done} B have arrived)"), reboots.into()))
        }
        Registration::Pulling { done, total, .. } => {
            let percent = done.saturating_mul(100) / total;
            Some((format!("its image ({percent} % of {total} B have arrived)"), reboots.into()))
        }
        Registration::Preparing => Some(("its image, which is being prepared".into(), reboots.into())),
        Registration::Failed { step, cause, .. } => Some((format!("its image: {step} failed"), cause.clone())),
    }
}
