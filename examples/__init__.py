"""Models of other things than text on the same pieces: trained small by a script, converted, run. Run from here."""
