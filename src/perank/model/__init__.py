"""The PE-Rank model: encoder -> projector -> splice into the prompt -> LLM -> scores."""
