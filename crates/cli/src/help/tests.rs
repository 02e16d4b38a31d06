use clap::CommandFactory as _;

use super::*;
use crate::args::Args;

#[test]
fn pages_are_whole_and_narrow_enough_for_any_terminal() {
    for topic in TOPICS {
        let text = topic.text;
        assert!(text.starts_with("# ") && text.ends_with('\n') && !text.contains('\t'), "{}", topic.name);
        assert!(text.lines().count() >= 12, "{} says too little", topic.name);
        assert_eq!(text.matches("\n```").count() % 2, 0, "{} does not close what it opens", topic.name);
        for line in text.lines() {
            assert!(line.chars().count() <= 82, "{}: too long: {line}", topic.name);
        }
    }
}

#[test]
fn every_page_is_a_topic_and_pages_name_only_topics() {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/help");
    let mut pages: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().trim_end_matches(".md").to_owned())
        .collect();
    pages.sort();
    let mut topics: Vec<_> = TOPICS.iter().map(|topic| topic.name.to_owned()).collect();
    topics.sort();
    assert_eq!(pages, topics);
    for topic in TOPICS {
        for mention in topic.text.split("walt help show ").skip(1) {
            let name: String = mention.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            assert!(TOPICS.iter().any(|topic| topic.name == name) || mention.starts_with("TOPIC"), "{name}");
        }
    }
}

#[test]
fn commands_on_pages_can_be_typed() {
    let command = Args::command();
    let mut tried = 0;
    for topic in TOPICS {
        for line in commands(topic.text) {
            let words = words(&line);
            if let Err(error) = command.clone().try_get_matches_from(&words) {
                assert!(!error.use_stderr(), "{}: {line}: {error}", topic.name);
            }
            tried += 1;
        }
    }
    assert!(tried > 50, "only {tried} commands were found");
}

/// The commands in the blocks of a page.
fn commands(text: &str) -> Vec<String> {
    let mut code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            code = !code;
        } else if code && line.starts_with("walt ") {
            let line = line.split(" #").next().unwrap();
            found.extend(line.split(&['|', '>'][..]).next().unwrap().split("&&").map(str::to_owned));
        }
    }
    found
}

/// The words of a simple command. `|| exit` and such have no place in them.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (number, part) in line.split('\'').enumerate() {
        // Each second part stands in quotes.
        if number % 2 == 1 {
            words.push(part.to_owned())
        } else {
            words.extend(part.split_whitespace().map(str::to_owned))
        }
    }
    words
}

#[test]
fn a_topic_that_is_not_there_has_a_nearest_one() {
    assert_eq!(find("node-sets").unwrap().name, "node-sets");
    assert_eq!(find("Node-Sets").unwrap().name, "node-sets");
    for (asked, near) in [("node-set", "node-sets"), ("poe", "device-poe"), ("ranges", "log-ranges"), ("lgos", "logs")]
    {
        let problem = find(asked).unwrap_err();
        let hint = problem.hint.unwrap();
        assert!(problem.message.contains(asked) && hint.contains(&format!("show {near}`")), "{asked}: {hint}");
    }
    assert!(!find("zzzzzz").unwrap_err().hint.unwrap().contains("is it"));
}
