package s3blob_test

import "syscall"

// diesWithUs has the kernel end a child, however this process ends.
func diesWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
