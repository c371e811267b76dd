# What zsh offers after `ovs-keepalive sch` and `ovs-keepalive schema `, asked of a shell in a pseudo-terminal.
# SPDX-License-Identifier: Apache-2.0
zmodload zsh/zpty
zpty shell 'PS1= TERM=dumb zsh -f -i'
offers() { # LINE EXPECTED
    local text= part
    zpty -w -n shell "$1"$'\t\x15'"print -r -- end-of-$#1"$'\n'
    while zpty -r shell part "*end-of-$#1*"; do
        text+=$part
        [[ $part == *end-of-$#1* ]] && break
    done
    [[ $text == *$2* ]] || { print -r -- "after '$1' zsh shows: $text"; exit 1; }
}
zpty -w shell 'autoload -Uz compinit && compinit -u -D'
offers 'ovs-keepalive sch' 'schema'
offers 'ovs-keepalive schema st' 'status'
zpty -d shell
