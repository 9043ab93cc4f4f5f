//go:build !linux

package s3blob_test

import "syscall"

// diesWithUs leaves a child in our process group, which a Ctrl-C ends as a whole.
func diesWithUs() *syscall.SysProcAttr { return nil }
