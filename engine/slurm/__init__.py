"""Fleets on SLURM: a readable job script, an array of tasks, and a finishing job after them.

- `client`: SLURM's own commands, each within a deadline, and what goes wrong with them.
- `job`: what this process's own job gives it, and how it asks to be run again.
- `script`: the two scripts that are kept in the run directory.
- `fleet`: what was submitted; `standing`: where each task stands.
- `commands`: submit, status, resume, cancel.
"""
