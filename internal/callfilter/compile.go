package callfilter

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"golang.org/x/net/bpf"
)

// Offsets in struct seccomp_data. Both machines are little-endian, so the low
// half of an argument comes first.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// maxInstructions is the kernel's limit on one program (BPF_MAXINSNS).
const maxInstructions = 4096

// leaf is what the search for a number ends in: an answer or a rule.
type leaf struct {
	answer Answer
	rule   *Rule
}

// span is a run of numbers with the same leaf, up to the next span.
type span struct {
	first uint32
	leaf  leaf
}

// Compile makes the program of a profile for a machine, as the struct
// sock_filter array that seccomp(2) takes. Calls are found by binary search, so
// that no call pays for the length of the lists. It refuses a profile that
// names an unknown call or one call twice.
func Compile(p Profile, arch Arch) ([]byte, error) {
	prog, err := Assemble(p, arch)
	if err != nil {
		return nil, err
	}
	raw, err := bpf.Assemble(prog)
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	b := make([]byte, 0, 8*len(raw))
	for _, ins := range raw {
		b = binary.LittleEndian.AppendUint16(b, ins.Op)
		b = append(b, ins.Jt, ins.Jf)
		b = binary.LittleEndian.AppendUint32(b, ins.K)
	}
	return b, nil
}

// Assemble is Compile up to the machine-readable form.
func Assemble(p Profile, arch Arch) ([]bpf.Instruction, error) {
	audit, err := arch.Audit()
	if err != nil {
		return nil, err
	}
	leaves, err := leavesOf(p, arch)
	if err != nil {
		return nil, err
	}
	prog := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: audit, SkipTrue: 1},
		bpf.RetConstant{Val: uint32(NotThere)},
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
	}
	prog = append(prog, search(spansOf(leaves))...)
	if len(prog) > maxInstructions {
		return nil, fmt.Errorf("filter has %d instructions, limit is %d", len(prog), maxInstructions)
	}
	return prog, nil
}

// leavesOf maps the numbers that the profile speaks of to their leaves.
func leavesOf(p Profile, arch Arch) (map[uint32]leaf, error) {
	nrs, err := arch.Numbers()
	if err != nil {
		return nil, err
	}
	leaves := make(map[uint32]leaf, len(nrs))
	seen := make(map[string]bool, len(nrs))
	put := func(call string, l leaf) error {
		nr, known := nrs[call]
		switch {
		case !known:
			return fmt.Errorf("profile names unknown system call %q", call)
		case seen[call]:
			return fmt.Errorf("profile names system call %q twice", call)
		}
		seen[call] = true
		if nr >= 0 {
			leaves[uint32(nr)] = l
		}
		return nil
	}
	for _, call := range p.Allow {
		if err := put(call, leaf{answer: Allow}); err != nil {
			return nil, err
		}
	}
	for _, call := range p.Deny {
		if err := put(call, leaf{answer: NotPermitted}); err != nil {
			return nil, err
		}
	}
	for i := range p.Rules {
		if err := put(p.Rules[i].Call, leaf{rule: &p.Rules[i]}); err != nil {
			return nil, err
		}
	}
	return leaves, nil
}

// spansOf covers all numbers, those without a leaf by NotThere. That includes
// the numbers of the x32 ABI, which have a high bit set.
func spansOf(leaves map[uint32]leaf) []span {
	nrs := make([]uint32, 0, len(leaves))
	for nr := range leaves {
		nrs = append(nrs, nr)
	}
	slices.Sort(nrs)

	unknown := leaf{answer: NotThere}
	spans := []span{{first: 0, leaf: unknown}}
	add := func(first uint32, l leaf) {
		last := &spans[len(spans)-1]
		switch {
		case last.first == first:
			last.leaf = l
		case last.leaf != l:
			spans = append(spans, span{first, l})
		}
	}
	next := uint32(0)
	for _, nr := range nrs {
		if nr != next {
			add(next, unknown)
		}
		add(nr, leaves[nr])
		next = nr + 1
	}
	add(next, unknown)
	return merged(spans)
}

// merged joins neighbours that an overwritten first span left equal.
func merged(spans []span) []span {
	return slices.CompactFunc(spans, func(a, b span) bool { return a.leaf == b.leaf })
}

// search emits the binary search of the number in the accumulator.
func search(spans []span) []bpf.Instruction {
	if len(spans) == 1 {
		l := spans[0].leaf
		if l.rule != nil {
			return l.rule.compile()
		}
		return []bpf.Instruction{bpf.RetConstant{Val: uint32(l.answer)}}
	}
	mid := len(spans) / 2
	below, from := search(spans[:mid]), search(spans[mid:])

	var prog []bpf.Instruction
	if len(below) <= math.MaxUint8 {
		prog = append(prog, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: spans[mid].first, SkipTrue: uint8(len(below))})
	} else { // a conditional jump reaches 255 instructions only
		prog = append(prog,
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: spans[mid].first, SkipFalse: 1},
			bpf.Jump{Skip: uint32(len(below))})
	}
	return append(append(prog, below...), from...)
}

// compile emits the tests of a rule; each way through it ends in an answer.
func (r *Rule) compile() []bpf.Instruction {
	var prog []bpf.Instruction
	for _, w := range r.When {
		then := []bpf.Instruction{bpf.RetConstant{Val: uint32(w.Then)}}
		if w.And != nil {
			then = w.And.compile()
		}
		cond := bpf.JumpEqual
		if w.Op == AnyBit {
			cond = bpf.JumpBitsSet
		}
		prog = append(prog, bpf.LoadAbsolute{Off: offArgs + 8*uint32(w.Arg), Size: 4})
		for i, v := range w.Vals {
			left := len(w.Vals) - i - 1
			test := bpf.JumpIf{Cond: cond, Val: v, SkipTrue: uint8(left)}
			if left == 0 {
				test.SkipFalse = uint8(len(then))
			}
			prog = append(prog, test)
		}
		prog = append(prog, then...)
	}
	return append(prog, bpf.RetConstant{Val: uint32(r.Else)})
}
