"""How much memory a process tree takes, by stage and over time; ours and other systems' by one ruler."""
