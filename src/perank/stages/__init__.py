"""The two training stages as LightningModules: forward, loss, optimizer, nothing else."""
