"""Who teaches: bandits and contextual bandits over the teachers."""
