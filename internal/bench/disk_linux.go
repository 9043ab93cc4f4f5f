package main

import (
	"os"
	"syscall"
)

// syncName is what PostgreSQL calls by default on Linux.
const syncName = "fdatasync"

func syncData(file *os.File) error { return syscall.Fdatasync(int(file.Fd())) }
