"""Judges of network policy: what the objects say, what is done, and what was meant.

What was meant is the plan's intent; what is said is what the policy objects come to; what is done is what trials of new
connections showed. A requirement is judged by what is done, or by what is said where it speaks of objects, and a
finding tells what the other one has to say about it.
"""
