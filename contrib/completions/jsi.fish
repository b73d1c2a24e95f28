# fish completion for jsi. Printed by: jsi completions fish
# Install it as jsi.fish in ~/.config/fish/completions, or: jsi completions fish | source

function __jsi_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l answer ($words[1] complete -- $words[2..-1] "$current" 2>/dev/null)
    switch "$answer[1]"
        case files
            __fish_complete_path "$current"
        case directories
            __fish_complete_directories "$current"
        case 'command *'
            set -l first (math (string replace 'command ' '' -- $answer[1]) + 2)
            set -l behind
            if test $first -le (count $words)
                set behind (string escape -- $words[$first..-1])
            end
            complete -C (string join ' ' -- $behind "$current")
        case words
            printf '%s\n' $answer[2..-1]
    end
end

complete -c jsi -f -a '(__jsi_complete)'
