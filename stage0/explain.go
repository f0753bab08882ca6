package stage0

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"

	"rkt/stage1/contract"
)

// Explain lets the stage1 of a prepared pod print how it would start the apps.
// Nothing is run, and the pod stays as it is.
func Explain(ctx context.Context, p *Prepared, out io.Writer) error {
	command, err := p.stage1.command(contract.EntryExplain)
	if err != nil {
		return err
	}
	if err := writeEtc(p.Pod.Path(), &p.sandbox); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = p.Pod.Path(), stage1Environment(), out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("explain pod %s: %w", p.UUID(), err)
	}
	return nil
}
