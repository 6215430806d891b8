"""Fleets on SLURM: a readable job script, an array of tasks, and a finishing job after them.

- `client`: what the queue tells of jobs. (What a job knows of itself is in `engine.machine.batch_job`.)
- `script`: the two scripts that are kept in the run directory.
- `fleet`: what was submitted; `states`: the state of each task.
- `commands`: submit, status, resume, cancel.
"""
