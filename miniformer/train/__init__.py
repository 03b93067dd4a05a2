"""Training with Lightning: every Miniformer task, and sentence encoders."""
