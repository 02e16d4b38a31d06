//! Questions, on a terminal.

use std::io::{self, IsTerminal, Write};
use std::str::FromStr;

use anyhow::{Context, Error, bail};

/// Asks until the answer makes sense; an empty one is `proposed`. With `yes`, that is taken without a question.
///
/// # Errors
/// There is nobody to ask, or nothing to propose: `option` is how to say it on the command line.
pub(super) fn value<T>(question: &str, proposed: Option<T>, yes: bool, option: &str) -> Result<T, Error>
where
    T: FromStr + ToString,
    T::Err: std::fmt::Display,
{
    match proposed {
        Some(proposed) if yes => return Ok(proposed),
        _ if yes || !is_terminal() => bail!("say {option}"),
        _ => {}
    }
    let default = proposed.as_ref().map(|proposed| format!(" [{}]", proposed.to_string())).unwrap_or_default();
    loop {
        let answer = line(&format!("{question}{default}: "))?;
        match (answer.is_empty(), &proposed) {
            (true, Some(proposed)) => {
                return proposed.to_string().parse().map_err(|error| Error::msg(format!("{error}")));
            }
            (true, None) => {}
            _ => match answer.parse() {
                Ok(value) => return Ok(value),
                Err(error) => println!("{error}"),
            },
        }
    }
}

/// Asks for a yes or a no. With `yes`, it is one.
///
/// # Errors
/// There is nobody to ask.
pub(super) fn agreed(question: &str, yes: bool, option: &str) -> Result<bool, Error> {
    if yes {
        return Ok(true);
    }
    if !is_terminal() {
        bail!("{question} There is no terminal to ask on: say {option}");
    }
    loop {
        match line(&format!("{question} [Y/n] "))?.to_lowercase().as_str() {
            "" | "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => println!("yes or no"),
        }
    }
}

fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

fn line(prompt: &str) -> Result<String, Error> {
    print!("{prompt}");
    io::stdout().flush().context("can not write to the terminal")?;
    let mut answer = String::new();
    if io::stdin().read_line(&mut answer).context("can not read the answer")? == 0 {
        bail!("there was no answer: nothing was changed");
    }
    Ok(answer.trim().to_owned())
}
