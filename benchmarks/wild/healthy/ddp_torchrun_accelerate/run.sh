#!/bin/bash
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --local-addr 127.0.0.1 --nproc_per_node 2 "$(dirname "$0")/train.py" "$@"
