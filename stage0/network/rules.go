package network

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rules adds the chains with what holds for all pods. alone says that packets of
// others are not to be forwarded: the host did not before there were pods.
func (t *table) rules(alone bool) {
	c := t.chain("origin", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, nftables.ChainPriorityRaw)
	// Nobody sends with an address that is not theirs. Neighbours of IPv6 talk with
	// link-local ones, which go no further.
	for _, p := range []string{"fe80::/10", "::/128"} {
		c.rule(t.fromPod(), matchSource(netip.MustParsePrefix(p)), verdict(expr.VerdictAccept))
	}
	c.rule(t.fromPod(), []expr.Any{
		&expr.Fib{Register: 1, FlagSADDR: true, FlagIIF: true, ResultOIF: true}, equal([]byte{0, 0, 0, 0}),
	}, verdict(expr.VerdictDrop))

	c = t.chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	t.published(c)
	c = t.chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	for _, p := range []string{"127.0.0.0/8", "::1/128"} { // the supervisors listen there
		c.rule(matchDestination(netip.MustParsePrefix(p)), verdict(expr.VerdictReturn))
	}
	t.published(c)

	c = t.chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	// A pod that asks for what a pod publishes must not get the answer directly.
	c.rule(t.fromPod(), t.toPod(), wasDNAT(), []expr.Any{&expr.Masq{}})
	c.rule(t.fromPod("d"), t.notToPod(), []expr.Any{&expr.Masq{}})

	t.forwardRules(alone)
	t.inputRules()
}

// forwardRules says who reaches whom through the host.
func (t *table) forwardRules(alone bool) {
	c := t.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter)
	c.rule(established(), verdict(expr.VerdictAccept))
	c.rule(t.fromPod(), t.toPod(), wasDNAT(), verdict(expr.VerdictAccept))
	c.rule(t.fromPod(), t.toPod(), t.sourceIn(allowPods+"4"), verdict(expr.VerdictAccept))
	c.rule(t.fromPod(), t.toPod(), t.sourceIn(allowPods+"6"), verdict(expr.VerdictAccept))
	c.rule(t.fromPod(), t.toPod(), reject())
	c.rule(t.fromPod("r"), reject())
	for _, p := range metadata() {
		set := allowMetadata + letter(p.Addr())
		c.rule(t.fromPod(), matchDestination(p), t.sourceNotIn(set), reject())
	}
	c.rule(t.fromPod(), verdict(expr.VerdictAccept))
	c.rule(t.toPod(), wasDNAT(), verdict(expr.VerdictAccept))
	c.rule(t.toPod(), verdict(expr.VerdictDrop))
	if alone {
		c.rule(verdict(expr.VerdictDrop))
	}
}

// inputRules says what pods reach of the host itself.
func (t *table) inputRules() {
	c := t.chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter)
	c.rule(t.fromPod(), established(), verdict(expr.VerdictAccept))
	c.rule(t.fromPod(), protocol(unix.IPPROTO_ICMP), icmpType(8), verdict(expr.VerdictAccept)) // echo request
	for _, kind := range []byte{128, 135, 136} {                                               // echo request, neighbour solicitation and advertisement
		c.rule(t.fromPod(), protocol(unix.IPPROTO_ICMPV6), icmpType(kind), verdict(expr.VerdictAccept))
	}
	c.rule(t.fromPod(), t.sourceIn(allowHost+"4"), verdict(expr.VerdictAccept))
	c.rule(t.fromPod(), t.sourceIn(allowHost+"6"), verdict(expr.VerdictAccept))
	c.rule(t.fromPod(), reject())
}

// metadata are where clouds tell a machine about itself, credentials included.
func metadata() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range []string{
		"169.254.0.0/16", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::/32", "fd20:ce::254/128", "fe80::/10",
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// published sends what is for a published port on to the pod.
func (t *table) published(c *chain) {
	for _, v := range []struct {
		letter string
		family byte
		offset uint32 // of the destination
		length uint32
		proto  uint32 // registers behind the address
		port   uint32
	}{{"4", unix.NFPROTO_IPV4, 16, 4, 9, 10}, {"6", unix.NFPROTO_IPV6, 24, 16, 12, 13}} {
		destination := &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: v.offset, Len: v.length}
		nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(v.family), RegAddrMin: 1, RegProtoMin: v.proto}
		lookup := func(name string) expr.Any {
			s := t.sets[name+v.letter]
			return &expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: s.Name, SetID: s.ID}
		}
		key := func(proto, port uint32) []expr.Any {
			return []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: proto},
				&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			}
		}
		c.rule(family(v.family), []expr.Any{destination}, key(v.proto, v.port), []expr.Any{lookup(publish), nat})
		c.rule(family(v.family), []expr.Any{
			&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true}, equal(native(unix.RTN_LOCAL)),
		}, key(1, 9), []expr.Any{lookup(anyhost), nat})
	}
}

// chain is a chain that rules are added to.
type chain struct {
	t     *table
	chain *nftables.Chain
}

func (t *table) chain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority *nftables.ChainPriority) *chain {
	return &chain{t, t.conn.AddChain(&nftables.Chain{Name: name, Table: t.table, Type: kind, Hooknum: hook, Priority: priority})}
}

// rule adds a rule of several parts.
func (c *chain) rule(parts ...[]expr.Any) {
	var exprs []expr.Any
	for _, p := range parts {
		exprs = append(exprs, p...)
	}
	c.t.conn.AddRule(&nftables.Rule{Table: c.t.table, Chain: c.chain, Exprs: exprs})
}

// fromPod is what comes in by an interface to a pod, of one kind if it is given.
func (t *table) fromPod(kind ...string) []expr.Any {
	return t.interfaceIs(expr.MetaKeyIIFNAME, expr.CmpOpEq, kind)
}

func (t *table) toPod() []expr.Any { return t.interfaceIs(expr.MetaKeyOIFNAME, expr.CmpOpEq, nil) }

func (t *table) notToPod() []expr.Any { return t.interfaceIs(expr.MetaKeyOIFNAME, expr.CmpOpNeq, nil) }

func (t *table) interfaceIs(key expr.MetaKey, op expr.CmpOp, kind []string) []expr.Any {
	name := t.prefix
	for _, k := range kind {
		name += k
	}
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: op, Register: 1, Data: []byte(name)}}
}

func (t *table) sourceIn(set string) []expr.Any { return t.source(set, false) }

// sourceNotIn is what does not come from an address in a set.
func (t *table) sourceNotIn(set string) []expr.Any { return t.source(set, true) }

func (t *table) source(set string, invert bool) []expr.Any {
	s := t.sets[set]
	fam, offset, length := byte(unix.NFPROTO_IPV4), uint32(12), uint32(4)
	if s.KeyType.Bytes == 16 {
		fam, offset, length = unix.NFPROTO_IPV6, 8, 16
	}
	return append(family(fam),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID, Invert: invert})
}

func family(f byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{f})}
}

func protocol(p byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{p})}
}

func icmpType(t byte) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1}, equal([]byte{t})}
}

func matchSource(p netip.Prefix) []expr.Any { return match(p, 12, 8) }

func matchDestination(p netip.Prefix) []expr.Any { return match(p, 16, 24) }

// match is an address in a prefix, at an offset of either header.
func match(p netip.Prefix, offset4, offset6 uint32) []expr.Any {
	fam, offset := byte(unix.NFPROTO_IPV4), offset4
	if p.Addr().Is6() {
		fam, offset = unix.NFPROTO_IPV6, offset6
	}
	length := p.Addr().BitLen() / 8
	mask := make([]byte, length)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return append(family(fam),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(length)},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(length), Mask: mask, Xor: make([]byte, length)},
		equal(p.Masked().Addr().AsSlice()))
}

// established is what belongs to a connection that was let through before.
func established() []expr.Any {
	return bits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// wasDNAT is what was for a published port.
func wasDNAT() []expr.Any { return bits(expr.CtKeySTATUS, 1<<5) } // IPS_DST_NAT

// bits is a connection that has one of some bits.
func bits(key expr.CtKey, mask uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: key, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(mask), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

func equal(b []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }

// reject tells whoever asks, so that nobody waits.
func reject() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}

// native is a number in the order of bytes of this machine.
func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
