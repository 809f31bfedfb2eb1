"""Work on a Ray cluster: `--cluster auto`, `ray://HOST:PORT`, or `local:N` for N nodes on this machine.

Ray schedules, queues, retries and restarts; here is only what of ours it runs (`worker`), on whom (`pool`), and
whether the nodes are fit for it (`address`, `checks`). See docs/scaling.md.
"""
