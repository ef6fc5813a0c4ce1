"""What tests share: tiny models, a toy collection, brute-force rewrites, fakes (`from support import tiny`)."""
