#!/bin/bash
. common_script.sh
check_program python3
get_source_files py
cat >vpl_execution <<EOF
#!/bin/bash
exec $PROGRAM "$SOURCE_FILE0"
EOF
chmod +x vpl_execution
