"""How much memory a process tree takes, stage by stage, over time; ours and other systems' by the same ruler."""
