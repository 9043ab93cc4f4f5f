//go:build !unix

package devdb

import (
	"errors"
	"os"
	"syscall"
)

// detached has no meaning here: no watchdog and no local cluster is started on this system.
func detached(*account) *syscall.SysProcAttr { return nil }

func shutDown(*os.Process) error { return errors.ErrUnsupported }

func killTree(*os.Process) error { return errors.ErrUnsupported }
