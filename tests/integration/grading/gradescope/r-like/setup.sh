#!/usr/bin/env bash
printf '#!/bin/sh\nexec awk -f "$@"\n' > /usr/bin/Rscript && chmod +x /usr/bin/Rscript
