package network

import (
	"context"

	"rkt/stage1/contract"
)

type cniList struct{}

func (t *task) findList(name string) (*cniList, error) { return nil, nil }
func (t *task) joinList(ctx context.Context, list *cniList, n contract.Network, ifname string) error {
	return nil
}
func (t *task) leaveLists(ctx context.Context) error { return nil }
