"""Policy distillation in deep reinforcement learning."""
