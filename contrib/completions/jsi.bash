# bash completion for jsi. Printed by: jsi completions bash
# Source it from ~/.bashrc, or install it as
# /usr/share/bash-completion/completions/jsi
# shellcheck shell=bash

_jsi() {
    local command=${1/#\~/$HOME} rest=$COMP_LINE at=0 i word gap line current mode
    local -a words=() answer=()

    # bash takes words apart at = and : as well: those that no space parts are
    # put together again, and the last one ends at the cursor.
    for ((i = 0; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        gap=${rest%%[![:space:]]*}
        rest=${rest#"$gap"}
        at=$((at + ${#gap}))
        if ((i == COMP_CWORD)); then
            line=$((COMP_POINT - at))
            ((line >= 0)) && word=${word:0:line}
        fi
        rest=${rest#"${COMP_WORDS[i]}"}
        at=$((at + ${#COMP_WORDS[i]}))
        if [[ -z $gap && $i -gt 0 ]]; then
            words[${#words[@]} - 1]+=$word
        else
            words+=("$word")
        fi
    done
    words=("${words[@]//[\"\'\\]/}")
    current=${words[${#words[@]} - 1]}

    mapfile -t answer < <("$command" complete -- "${words[@]:1}" 2>/dev/null)
    COMPREPLY=()
    mode=${answer[0]-}
    case $mode in
        files)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            ;;
        directories)
            compopt -o filenames 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$current")
            ;;
        command*)
            for ((i = 0; i < COMP_CWORD; i++)); do
                [[ ${COMP_WORDS[i]} == -- ]] && break
            done
            if declare -F _comp_command_offset >/dev/null; then
                _comp_command_offset "$((i + 1))"
            elif declare -F _command_offset >/dev/null; then
                _command_offset "$((i + 1))"
            elif ((i + 1 == COMP_CWORD)); then
                mapfile -t COMPREPLY < <(compgen -c -- "$current")
            else
                compopt -o filenames 2>/dev/null
                mapfile -t COMPREPLY < <(compgen -f -- "$current")
            fi
            ;;
        words)
            # What stands before the last = or : is not replaced.
            local kept=
            [[ $current == *[=:]* && $COMP_WORDBREAKS == *[=:]* ]] && kept=${current%"${current##*[=:]}"}
            for line in "${answer[@]:1}"; do
                word=${line%%$'\t'*}
                word=${word#"$kept"}
                printf -v word %q "$word"
                COMPREPLY+=("$word")
            done
            # More is to come behind these.
            [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/:#] ]] && compopt -o nospace 2>/dev/null
            ;;
    esac
    return 0
}

complete -F _jsi jsi
