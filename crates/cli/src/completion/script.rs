//! The scripts that shells read.

use anyhow::Error;

use crate::args::Shell;
use crate::report::say;

/// Bash splits the word at the cursor at `:` and `=`, which are in the names of images: it hands over the line as it is.
const BASH: &str = r#"# Completion of walt for bash.
_walt() {
    mapfile -t COMPREPLY < <("$1" complete bash --at "$COMP_POINT" --word-breaks "$COMP_WORDBREAKS" -- "$COMP_LINE" 2>/dev/null)
    # A directory, a member of a set, a node's file: there is more to come.
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[/,:=] ]]; then
        compopt -o nospace
    fi
}
complete -o nosort -F _walt walt
"#;

const ZSH: &str = r#"#compdef walt
# Completion of walt for zsh.
_walt() {
    local -a written found open whole
    local candidate
    written=("${(@Q)words[1,CURRENT-1]}" "${(Q)PREFIX}")
    found=("${(@f)$("${(Q)words[1]}" complete zsh -- "${(@)written}" 2>/dev/null)}")
    for candidate in "${(@)found}"; do
        [[ -n $candidate ]] || continue
        # A directory, a member of a set, a node's file: there is more to come.
        case ${${candidate//\\:/}%%:*} in
            */|*,) open+=("$candidate") ;;
            *) if [[ $candidate == *\\: ]]; then open+=("$candidate"); else whole+=("$candidate"); fi ;;
        esac
    done
    _describe -V walt whole -- open -S ''
}
if [ "$funcstack[1]" = _walt ]; then
    _walt "$@"
else
    compdef _walt walt
fi
"#;

const FISH: &str = r#"# Completion of walt for fish.
function __walt_complete
    set --local written (commandline --tokenize --current-process --cut-at-cursor)
    set --append written (commandline --current-token --cut-at-cursor)
    $written[1] complete fish -- $written 2>/dev/null
end
complete --command walt --no-files --keep-order --arguments '(__walt_complete)'
"#;

/// Prints the script of a shell.
pub(crate) fn print(shell: Shell) -> Result<(), Error> {
    let script = match shell {
        Shell::Bash => BASH,
        Shell::Zsh => ZSH,
        Shell::Fish => FISH,
    };
    say(script.trim_end())
}
