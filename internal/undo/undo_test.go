package undo

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestOnErrorUndoesNewestFirst(t *testing.T) {
	failed, broken := errors.New("failed"), errors.New("broken")
	var got []string
	work := func(ctx context.Context, result error) (err error) {
		var done Stack
		defer done.OnError(&err)
		for _, name := range []string{"a", "b", "c"} {
			done.Add(func(ctx context.Context) error {
				got = append(got, name)
				if name == "b" {
					return errors.Join(broken, ctx.Err())
				}
				return ctx.Err()
			})
		}
		return result
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the undoing outlives it
	if err := work(ctx, nil); err != nil || got != nil {
		t.Errorf("after success: undid %q, %v", got, err)
	}
	err := work(ctx, failed)
	if !slices.Equal(got, []string{"c", "b", "a"}) {
		t.Errorf("undid %q, want c b a", got)
	}
	if !errors.Is(err, failed) || !errors.Is(err, broken) || errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want the first one and that of the undoing", err)
	}
}
