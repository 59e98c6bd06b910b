package outside

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A key of the old form has no checksum: one wrong password in 256 looks right.
func TestAWrongPasswordNeverOpensAKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalECPrivateKey(key)
	require.NoError(t, err)
	for range 1500 {
		//lint:ignore SA1019 the form that is tested
		block, err := x509.EncryptPEMBlock(rand.Reader, "EC PRIVATE KEY", der, []byte("sesame"), x509.PEMCipherAES128)
		require.NoError(t, err)
		_, err = decrypt(pem.EncodeToMemory(block), "wrong")
		require.ErrorIs(t, err, errPassword)
	}
}

func TestAKeyWithoutPasswordStaysAsItIs(t *testing.T) {
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})
	got, err := decrypt(text, "")
	require.NoError(t, err)
	assert.Equal(t, text, got)
	_, err = decrypt([]byte("nothing"), "")
	require.ErrorContains(t, err, "holds no key in PEM")
}

func FuzzKey(f *testing.F) {
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		if _, err := decryptPKCS8(der, []byte("x")); err == nil {
			t.Skip("a key, by chance")
		}
	})
}
