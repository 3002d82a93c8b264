"""The machine below: forks and limits of memory and CPUs."""
