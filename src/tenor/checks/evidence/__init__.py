"""The input of rules: plain values from any training program, independent of Tenor's loop.

One frozen dataclass per kind of evidence. A field that may be unknown is None, and a rule that needs it raises
`CannotTell`. `description` names the source of the evidence for users. Sequences and arrays may have any type that
`tenor.data.sequences` reads; they are converted to lists and NumPy arrays, read by position.
"""
