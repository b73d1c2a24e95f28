//! The Merkle tree head over the log's leaves, computed as they come
//! (RFC 6962, 2.1).

use ring::digest::{Context, SHA256};

/// A SHA-256 value.
pub(crate) type Hash = [u8; 32];

/// A tree that knows only what it needs to grow: the roots of its perfect
/// subtrees, largest first. Their sizes are the one bits of `size`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    size: u64,
    frontier: Vec<Hash>,
}

impl Tree {
    /// The tree of that frontier; `None` where the count of subtrees does not
    /// fit the size.
    pub(crate) fn from_frontier(size: u64, frontier: Vec<Hash>) -> Option<Self> {
        let fits = usize::try_from(size.count_ones()).is_ok_and(|ones| ones == frontier.len());
        fits.then_some(Self { size, frontier })
    }

    /// Leaves so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the perfect subtrees, largest first.
    pub(crate) fn frontier(&self) -> &[Hash] {
        &self.frontier
    }

    /// Adds a leaf by its hash.
    pub(crate) fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Each trailing one bit of the size is a subtree as large as `node`.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.frontier.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.frontier.push(node);
        self.size += 1;
    }

    /// The tree head: MTH of RFC 6962, 2.1.
    pub(crate) fn root(&self) -> Hash {
        let mut subtrees = self.frontier.iter().rev();
        let Some(smallest) = subtrees.next() else { return sha256(&[]) };
        subtrees.fold(*smallest, |right, left| node_hash(left, &right))
    }
}

/// SHA-256(0x00 ‖ bytes).
pub(crate) fn leaf_hash(bytes: &[u8]) -> Hash {
    sha256(&[&[0], bytes])
}

fn node_hash(left: &Hash, right: &Hash) -> Hash {
    sha256(&[&[1], left, right])
}

/// SHA-256 of the pieces in order.
pub(crate) fn sha256(pieces: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for piece in pieces {
        context.update(piece);
    }
    let mut hash = Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// The hash of that lower-case hex.
pub(crate) fn unhex(text: &str) -> Option<Hash> {
    data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Inputs and heads of the reference implementation's MerkleTreeTest
    // (certificate-transparency, cpp/merkletree/merkle_tree_test.cc).
    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const HEADS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn leaf(at: usize) -> Hash {
        leaf_hash(&data_encoding::HEXLOWER.decode(LEAVES[at].as_bytes()).unwrap())
    }

    #[test]
    fn heads_are_those_of_the_reference_implementation() {
        let mut tree = Tree::default();
        assert_eq!(hex(&tree.root()), HEADS[0]);
        for at in 0..LEAVES.len() {
            tree.push(leaf(at));
            assert_eq!(hex(&tree.root()), HEADS[at + 1], "after {} leaves", at + 1);
        }
    }

    #[test]
    fn growing_equals_the_recursive_definition() {
        // MTH as RFC 6962, 2.1 writes it.
        fn mth(leaves: &[Hash]) -> Hash {
            match leaves {
                [] => sha256(&[]),
                [one] => *one,
                many => {
                    let split = many.len().next_power_of_two() / 2;
                    node_hash(&mth(&many[..split]), &mth(&many[split..]))
                }
            }
        }
        let leaves: Vec<Hash> = (0u32..130).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let mut tree = Tree::default();
        for (at, leaf) in leaves.iter().enumerate() {
            tree.push(*leaf);
            assert_eq!(tree.root(), mth(&leaves[..=at]));
            let again = Tree::from_frontier(tree.size(), tree.frontier().to_vec()).unwrap();
            assert_eq!(again, tree);
        }
    }

    #[test]
    fn a_frontier_of_the_wrong_length_is_refused() {
        assert!(Tree::from_frontier(3, vec![Hash::default()]).is_none());
    }
}
