//! Memory is wiped as it is given back, so that no secret outlives whatever held it.
//!
//! Secrets of our own wipe themselves; but a token is also in the header that hyper copies, in
//! the TLS library's buffers, in a vector that grew and moved. None of these knows what it holds.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, for programs that hold secrets.
#[derive(Debug)]
pub struct Wiping;

// SAFETY: all memory comes from the system's allocator and goes back to it with the layout it
// came with; between the two nothing else is done but writing inside the block.
unsafe impl GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has this size, and nobody uses it any more.
        unsafe {
            wipe(block, layout.size());
            System.dealloc(block, layout);
        }
    }

    // The provided `realloc` allocates, copies and calls `dealloc` above: what moves leaves nothing.
}

/// How deep a call that makes a key goes, with room to spare.
const DEPTH: usize = 16 * 1024;

/// Overwrites what calls that are over have left on this thread's stack.
#[inline(never)]
pub fn stack() {
    let mut below = [0_u8; DEPTH];
    std::hint::black_box(&mut below);
}

/// Beyond that, `memset` takes an instruction that is slow to begin with, and most blocks are
/// not much larger.
const PIECE: usize = 1024;

/// # Safety
/// `block` must be valid for writes of `size` bytes.
unsafe fn wipe(block: *mut u8, size: usize) {
    // SAFETY: as the caller promised.
    unsafe {
        let mut done = 0;
        while done < size {
            let piece = (size - done).min(PIECE);
            block.add(done).write_bytes(0, piece);
            done += piece;
        }
        // Or the compiler leaves the writes out, as nobody reads what is freed.
        std::arch::asm!("/* {0} */", in(reg) block, options(nostack, preserves_flags));
    }
}
