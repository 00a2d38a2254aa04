"""TLS: who shows which certificate, who holds which key, and who is let in."""
