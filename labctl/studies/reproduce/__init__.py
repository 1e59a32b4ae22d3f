"""An article's figures computed again, each beside what is published: what agrees, what differs, what nobody can say.

`form` says how much is computed and how long it takes; `experiment`, `language` and `price` compute, by composing other
studies; `kept` remembers what is computed; `judge` compares it with what is published, and `article` does it all.
"""
