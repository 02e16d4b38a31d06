//! `walt node trace`: the timeline of a boot.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Error};
use api::{StepStatus, Trace};

use crate::node::painted;
use crate::report::{Colour, paint};

/// Prints it: time since the first packet, time since the step before, step, particulars.
pub(crate) fn print(trace: &Trace) -> Result<(), Error> {
    let text = render(trace, io::stdout().is_terminal());
    io::stdout().lock().write_all(text.as_bytes()).context("writing to standard output")
}

fn render(trace: &Trace, terminal: bool) -> String {
    let seconds = |ms: u64| format!("{:.3}", ms as f64 / 1000.0);
    let width = trace.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
    let mut text = format!("{} is {}; its last boot:\n", trace.node, painted(trace.state, terminal));
    text.push_str(&format!("{:>9} {:>9}  {:width$}  detail\n", "at s", "+ s", "step"));
    let mut before = 0;
    for step in &trace.steps {
        let delta = step.at_ms.saturating_sub(before);
        before = step.at_ms;
        let name = format!("{:width$}", step.name);
        let (name, mark) = match step.status {
            StepStatus::Ok => (name, ""),
            StepStatus::Failed => (paint(Colour::Red, &name, terminal), "FAILED: "),
        };
        let line = format!("{:>9} {:>9}  {name}  {mark}{}", seconds(step.at_ms), seconds(delta), step.detail);
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if let Some(stuck) = &trace.stuck {
        let label = paint(Colour::Yellow, "stuck:", terminal);
        let silent = seconds(stuck.silent_ms);
        text.push_str(&format!("{label} waiting for {}; nothing heard for {silent} s\n", stuck.waiting_for));
        text.push_str(&format!("       {}\n", stuck.hint));
    }
    text
}

#[cfg(test)]
mod tests {
    use api::{NodeState, Step, Stuck};

    use super::*;

    #[test]
    fn a_timeline_is_aligned_and_says_where_it_is_stuck() {
        let step =
            |at_ms, name: &str, detail: &str, status| Step { at_ms, name: name.into(), detail: detail.into(), status };
        let trace = Trace {
            node: "node-1".into(),
            started_at_ms: 0,
            state: NodeState::Booting,
            steps: vec![
                step(0, "dhcp-discover", "pxe-bios", StepStatus::Ok),
                step(12_700, "file", "tftp x: timeout", StepStatus::Failed),
            ],
            stuck: Some(Stuck { waiting_for: "ssh".into(), silent_ms: 1500, hint: "is it enabled?".into() }),
        };
        assert_eq!(
            render(&trace, false),
            "\
node-1 is booting; its last boot:
     at s       + s  step           detail
    0.000     0.000  dhcp-discover  pxe-bios
   12.700    12.700  file           FAILED: tftp x: timeout
stuck: waiting for ssh; nothing heard for 1.500 s
       is it enabled?
"
        );
        assert!(render(&trace, true).contains('\x1b') || std::env::var_os("NO_COLOR").is_some());
    }
}
