package doctor

import (
	"debug/elf"
	"errors"
	"fmt"
	"runtime"
	"slices"
)

// object is what is read of a shared object without loading it: this program is
// static and could not, and a look must not run what it looks at.
type object struct{ *elf.File }

func openObject(path string) (object, error) {
	f, err := elf.Open(path)
	if err != nil {
		return object{}, fmt.Errorf("is not a shared object (%w)", cause(err))
	}
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	if want, known := machines[runtime.GOARCH]; known && f.Machine != want {
		f.Close()
		return object{}, fmt.Errorf("is built for another architecture (%s)", f.Machine)
	}
	return object{f}, nil
}

// symbol is the address and size of what the object exports under a name.
func (o object) symbol(name string) (elf.Symbol, bool) {
	symbols, err := o.DynamicSymbols()
	if err != nil {
		return elf.Symbol{}, false
	}
	i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == name && s.Section != elf.SHN_UNDEF })
	if i < 0 {
		return elf.Symbol{}, false
	}
	return symbols[i], true
}

// number reads an exported variable of type unsigned int.
func (o object) number(name string) (uint32, error) {
	s, ok := o.symbol(name)
	if !ok {
		return 0, fmt.Errorf("exports no %s", name)
	}
	for _, section := range o.Sections {
		if section.Type == elf.SHT_NOBITS || s.Value < section.Addr || s.Value+4 > section.Addr+section.Size || section.Flags&elf.SHF_ALLOC == 0 {
			continue
		}
		var bytes [4]byte
		if _, err := section.ReadAt(bytes[:], int64(s.Value-section.Addr)); err != nil {
			return 0, err
		}
		return o.ByteOrder.Uint32(bytes[:]), nil
	}
	return 0, fmt.Errorf("%s is in no section", name)
}

// noteName is of the note in which libslurmk8s.so says its ABI (goffi/entry.c).
const noteName = "slurmk8s"

// abi is the number that libslurmk8s.so was built with.
func (o object) abi() (uint32, error) {
	section := o.Section(".note." + noteName)
	if section == nil {
		return 0, errors.New("has no ABI note: it is of another version, or not from slurmk8s")
	}
	data, err := section.Data()
	if err != nil {
		return 0, err
	}
	// Three words, the name with its zero byte in 12 bytes, the number.
	const size = 12 + 12 + 4
	if len(data) < size || string(data[12:12+len(noteName)]) != noteName {
		return 0, errors.New("has an ABI note that cannot be read")
	}
	return o.ByteOrder.Uint32(data[24:size]), nil
}
