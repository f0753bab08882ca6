package stage0

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"rkt/stage1/contract"
)

// Explain lets the stage1 of a prepared pod print how it would start the apps.
// Nothing is run, and the pod stays as it is. Of what a run would lend to it, it
// is told what a service manager has handed to this process.
func Explain(ctx context.Context, env *Env, p *Prepared, out io.Writer) (err error) {
	command, err := p.stage1.command(contract.EntryExplain)
	if err != nil {
		return err
	}
	if err := writeEtc(p.Pod.Path(), &p.sandbox); err != nil {
		return err
	}
	unit, err := env.handed(p)
	if err != nil {
		return err
	}
	if unit != nil {
		if err := contract.Write(p.Pod.Path(), contract.HostFile, &contract.Host{Version: contract.Version, Unit: unit}); err != nil {
			return fmt.Errorf("write what is handed to the pod: %w", err)
		}
		defer func() { err = errors.Join(err, os.Remove(filepath.Join(p.Pod.Path(), contract.HostFile))) }()
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.Pod.Path(), stage1Environment(), out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("explain pod %s: %w", p.UUID(), err)
	}
	return nil
}
