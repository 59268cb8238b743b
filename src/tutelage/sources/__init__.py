"""Where experience comes from: acting in an environment, or a recorded data set."""
