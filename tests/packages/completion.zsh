# What zsh makes of `ovs-keepalive sch` and a tab, asked of a shell in a pseudo-terminal.
# SPDX-License-Identifier: Apache-2.0
zmodload zsh/zpty
zpty shell 'PS1= TERM=dumb zsh -f -i'
becomes() { # LINE EXPECTED
    local text= part
    # The completed line is printed by the shell itself; what it echoes of the typing does not hold "end42".
    zpty -w -n shell "$1"$'\t\x01'"print -r -- said: "$'\x05; print end$((40 + 2))\n'
    while zpty -r shell part '*end42*'; do
        text+=$part
        [[ $text == *end42* ]] && break
    done
    [[ $text == *$'\n'"said: $2"* ]] || { print -r -- "'$1' becomes: $text"; exit 1; }
}
zpty -w shell 'autoload -Uz compinit && compinit -u -D'
becomes 'ovs-keepalive sch' 'ovs-keepalive schema'
becomes 'ovs-keepalive schema st' 'ovs-keepalive schema status'
zpty -d shell
