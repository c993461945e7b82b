// Verifies a log in the layout of C2SP tlog-tiles with Go's sumdb packages: see tests/interop/README.md.
//
// usage: checker LOG LOG_KEY WITNESS_KEY PROOFS
//
// WITNESS_KEY is - where the log has no witness.
// PROOFS is a directory: *.consistency files are requests of C2SP tlog-witness (add-checkpoint), *.tlog-proof files are
// proofs of C2SP tlog-proof with the entry beside them (*.json).
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: checker LOG LOG_KEY WITNESS_KEY PROOFS")
		os.Exit(2)
	}
	if err := check(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "checker:", err)
		os.Exit(1)
	}
}

func check(log, logKey, witnessKey, proofs string) error {
	keys, err := verifiers(logKey, witnessKey)
	if err != nil {
		return err
	}
	newest, err := readCheckpoint(filepath.Join(log, "checkpoint"), keys)
	if err != nil {
		return err
	}
	made, err := hashEntries(log, newest.N)
	if err != nil {
		return err
	}
	tiles := tlog.TileHashReader(newest, directory(log))
	for name, reader := range map[string]tlog.HashReader{"entries": made, "tiles": tiles} {
		if err := compareRoot(newest, reader); err != nil {
			return fmt.Errorf("the %s: %w", name, err)
		}
	}
	if err := compareLeaves(made, tiles, newest.N); err != nil {
		return err
	}
	kept, err := checkKept(log, keys, made)
	if err != nil {
		return err
	}
	consistent, included, err := checkProofs(proofs, keys, made)
	if err != nil {
		return err
	}
	fmt.Printf("verified %d entries, %d checkpoints, %d consistency proofs, %d inclusion proofs\n", newest.N, kept, consistent, included)
	return nil
}

// witness verifies cosignatures (C2SP tlog-cosignature), which the note package does not know.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (w witness) Name() string    { return w.name }
func (w witness) KeyHash() uint32 { return w.hash }
func (w witness) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	time := binary.BigEndian.Uint64(sig)
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", time, msg)
	return ed25519.Verify(w.key, []byte(signed), sig[8:])
}

func verifiers(logKey, witnessKey string) (note.Verifiers, error) {
	log, err := note.NewVerifier(logKey)
	if err != nil {
		return nil, err
	}
	if witnessKey == "-" {
		wanted = 1
		return note.VerifierList(log), nil
	}
	parts := strings.SplitN(witnessKey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("the witness's key is malformed")
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 4 {
		return nil, errors.New("the witness's key is malformed")
	}
	digest := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if binary.BigEndian.Uint32(digest[:]) != uint32(hash) {
		return nil, errors.New("the witness's key has another id")
	}
	return note.VerifierList(log, witness{parts[0], uint32(hash), key[1:]}), nil
}

// wanted is how many signatures a checkpoint has: the log's and, where it has one, the witness's.
var wanted = 2

// readCheckpoint demands all signatures.
func readCheckpoint(path string, keys note.Verifiers) (tlog.Tree, error) {
	bytes, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, err
	}
	return openCheckpoint(path, bytes, keys)
}

func openCheckpoint(path string, bytes []byte, keys note.Verifiers) (tlog.Tree, error) {
	signed, err := note.Open(bytes, keys)
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("%s: %w", path, err)
	}
	if len(signed.Sigs) != wanted {
		return tlog.Tree{}, fmt.Errorf("%s: %d signatures instead of %d", path, len(signed.Sigs), wanted)
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[0] != signed.Sigs[0].Name {
		return tlog.Tree{}, fmt.Errorf("%s: not an origin, a size and a root", path)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("%s: %w", path, err)
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// stored are the hashes of a tree in the order in which the tlog package numbers them.
type stored []tlog.Hash

func (s stored) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		if index >= int64(len(s)) {
			return nil, errors.New("a hash beyond the tree")
		}
		hashes[i] = s[index]
	}
	return hashes, nil
}

// hashEntries makes the tree from the entries alone.
func hashEntries(log string, size int64) (stored, error) {
	var hashes stored
	for first := int64(0); first < size; first += 256 {
		count := size - first
		if count > 256 {
			count = 256
		}
		path := filepath.Join(log, "tile", "entries", tilePath(first/256, count))
		bundle, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for i := int64(0); i < count; i++ {
			if len(bundle) < 2 || len(bundle)-2 < int(binary.BigEndian.Uint16(bundle)) {
				return nil, fmt.Errorf("%s: ends early", path)
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			next, err := tlog.StoredHashes(first+i, bundle[2:end], hashes)
			if err != nil {
				return nil, err
			}
			hashes, bundle = append(hashes, next...), bundle[end:]
		}
		if len(bundle) > 0 {
			return nil, fmt.Errorf("%s: goes on after its last entry", path)
		}
	}
	return hashes, nil
}

// tilePath is <N>[.p/<W>] of C2SP tlog-tiles.
func tilePath(n, width int64) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	if width < 256 {
		path += fmt.Sprintf(".p/%d", width)
	}
	return path
}

// directory reads tiles; the package checks them against the signed root.
type directory string

func (d directory) Height() int                     { return 8 }
func (d directory) SaveTiles([]tlog.Tile, [][]byte) {}
func (d directory) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, tile := range tiles {
		bytes, err := os.ReadFile(filepath.Join(string(d), "tile", strconv.Itoa(tile.L), tilePath(tile.N, int64(tile.W))))
		if err != nil {
			return nil, err
		}
		data[i] = bytes
	}
	return data, nil
}

func compareRoot(tree tlog.Tree, reader tlog.HashReader) error {
	root, err := tlog.TreeHash(tree.N, reader)
	if err == nil && root != tree.Hash {
		err = fmt.Errorf("the root of %d entries is %v and not %v", tree.N, root, tree.Hash)
	}
	return err
}

func compareLeaves(made, tiles tlog.HashReader, size int64) error {
	for first := int64(0); first < size; first += 1024 {
		var indexes []int64
		for i := first; i < size && i < first+1024; i++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, i))
		}
		ours, err := made.ReadHashes(indexes)
		if err != nil {
			return err
		}
		theirs, err := tiles.ReadHashes(indexes)
		if err != nil {
			return err
		}
		for i := range ours {
			if ours[i] != theirs[i] {
				return fmt.Errorf("entry %d is not the one of its tile", first+int64(i))
			}
		}
	}
	return nil
}

func checkKept(log string, keys note.Verifiers, made tlog.HashReader) (count int, err error) {
	err = filepath.WalkDir(filepath.Join(log, "checkpoints"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		tree, err := readCheckpoint(path, keys)
		if err != nil {
			return err
		}
		count++
		return compareRoot(tree, made)
	})
	return count, err
}

func checkProofs(proofs string, keys note.Verifiers, made tlog.HashReader) (consistent, included int, err error) {
	paths, err := filepath.Glob(filepath.Join(proofs, "*"))
	if err != nil {
		return 0, 0, err
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return 0, 0, err
		}
		switch filepath.Ext(path) {
		case ".consistency":
			err = checkConsistency(path, data, keys, made)
			consistent++
		case ".tlog-proof":
			err = checkInclusion(path, data, keys)
			included++
		}
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", path, err)
		}
	}
	return consistent, included, nil
}

// splitProof parts "<word> <number>", lines of hashes, an empty line and a checkpoint.
func splitProof(data []byte, word string) (number int64, hashes []tlog.Hash, checkpoint []byte, err error) {
	head, checkpoint, found := bytes.Cut(data, []byte("\n\n"))
	if !found {
		return 0, nil, nil, errors.New("no empty line")
	}
	lines := strings.Split(string(head), "\n")
	if !strings.HasPrefix(lines[0], word+" ") {
		return 0, nil, nil, fmt.Errorf("no line of %q", word)
	}
	number, err = strconv.ParseInt(lines[0][len(word)+1:], 10, 64)
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return 0, nil, nil, err
		}
		hashes = append(hashes, hash)
	}
	return number, hashes, checkpoint, err
}

func checkConsistency(path string, data []byte, keys note.Verifiers, made tlog.HashReader) error {
	old, hashes, checkpoint, err := splitProof(data, "old")
	if err != nil {
		return err
	}
	tree, err := openCheckpoint(path, checkpoint, keys)
	if err != nil {
		return err
	}
	oldRoot, err := tlog.TreeHash(old, made)
	if err != nil {
		return err
	}
	return tlog.CheckTree(hashes, tree.N, tree.Hash, old, oldRoot)
}

func checkInclusion(path string, data []byte, keys note.Verifiers) error {
	heading := []byte("c2sp.org/tlog-proof@v1\n")
	if !bytes.HasPrefix(data, heading) {
		return errors.New("no proof of version 1")
	}
	index, hashes, checkpoint, err := splitProof(data[len(heading):], "index")
	if err != nil {
		return err
	}
	tree, err := openCheckpoint(path, checkpoint, keys)
	if err != nil {
		return err
	}
	entry, err := os.ReadFile(strings.TrimSuffix(path, ".tlog-proof") + ".json")
	if err != nil {
		return err
	}
	return tlog.CheckRecord(hashes, tree.N, tree.Hash, index, tlog.RecordHash(entry))
}
