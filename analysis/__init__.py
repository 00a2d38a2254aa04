"""Pure judgement: facts and the plan go in, verdicts come out. Nothing here performs input or output."""
